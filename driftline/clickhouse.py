"""Clients of ClickHouse over HTTP or TLS, as the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from driftline.settings import ClickHouseSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# What OpenSSL says -> what to do about it.
_REMEDIES = {
    "CERTIFICATE_VERIFY_FAILED": "set SSL_CERT_FILE to the authority that signed the server's "
    "certificate, and CLICKHOUSE_HOST to a name in it",
    "WRONG_VERSION_NUMBER": "the port does not speak TLS: correct CLICKHOUSE_PORT, or set "
    "CLICKHOUSE_SECURE=false",
}


def clickhouse_client(settings: ClickHouseSettings, /, *, database: str, **options: Any) -> Client:
    """Connect; raises the client's error, with a remedy where TLS fails.

    `options` are further ones of clickhouse_connect.get_client. The client has no session, so that
    several threads may share it.
    """
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import OperationalError

    try:
        return clickhouse_connect.get_client(
            host=settings.host,
            port=settings.port,
            username=settings.user,
            password=settings.password,
            secure=settings.secure,
            database=database,
            autogenerate_session_id=False,
            **options,
        )
    except OperationalError as error:
        said = str(error)
        for sign, remedy in _REMEDIES.items():
            if sign in said:
                raise OperationalError(
                    f"no TLS with {settings.host}:{settings.port} ({sign}): {remedy}"
                ) from error
        raise
