"""Clients of AWS: region, endpoint and credentials from the environment, adaptive retries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline.settings import SettingsError


def aws_client(
    service: str,
    environment: Mapping[str, str],
    *,
    read_timeout: int,
    own_endpoint: Mapping[str, Any] | None = None,
) -> Any:
    """Give boto3's client of a service, such as "s3"; nothing is asked of AWS yet.

    What `environment` says comes first, as the sandbox's variables are not in the process's own;
    the rest is where boto3 looks for it. `read_timeout` is in seconds. `own_endpoint` is further
    configuration for an endpoint that is not AWS's. A throttled client slows down by itself. Raises
    SettingsError where boto3 finds no region, or finds something wrong.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    endpoint = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environment.get(
        "AWS_ENDPOINT_URL"
    )
    # Its stubs name every service apart.
    make: Any = boto3.client
    try:
        return make(
            service,
            # None leaves it to boto3.
            endpoint_url=endpoint,
            region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
            aws_access_key_id=environment.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=environment.get("AWS_SESSION_TOKEN"),
            config=Config(
                retries={"mode": "adaptive", "max_attempts": 6},
                connect_timeout=5,
                read_timeout=read_timeout,
                user_agent_extra="driftline",
                **((own_endpoint or {}) if endpoint else {}),
            ),
        )
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(
            f"no client of {service}: {error}. Set AWS_DEFAULT_REGION and the account's "
            "credentials as for every AWS tool"
        ) from None
