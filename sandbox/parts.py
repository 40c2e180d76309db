"""The three parts of the sandbox: what starts each, what it offers, and when it is ready."""

from __future__ import annotations

import http.client
import secrets
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from driftline.settings import ArchiveSettings, KafkaSettings

_LOOPBACK = "127.0.0.1"
_PROBE_SECONDS = 2
_ARCHIVE_URL = "s3://driftline-archive/raw"


class Part(ABC):
    """A server process of the sandbox. `name` names its log and its port file."""

    name: ClassVar[str]
    title: ClassVar[str]
    module: ClassVar[str]
    """What `python -m` runs: it serves until SIGTERM, on loopback, and writes its port file."""

    given_by: ClassVar[tuple[str, ...]]
    """Variables (patterns of their names) each of which means: use a system of one's own."""

    useless_alone: ClassVar[tuple[str, ...]] = ()
    """Variables that say how to reach such a system, but not where it is."""

    @abstractmethod
    def arguments(self, home: Path, environment: Mapping[str, str]) -> list[str]:
        """Give the arguments of `module`, beside the port file."""

    def command(self, home: Path, environment: Mapping[str, str]) -> list[str]:
        """Give the whole command. -P: the working directory must not shadow a package."""
        return [
            *(sys.executable, "-P", "-m", self.module),
            *("--port-file", str(port_file(home, self.name))),
            *self.arguments(home, environment),
        ]

    @abstractmethod
    def variables(self, port: int, credentials: Mapping[str, str]) -> dict[str, str]:
        """Give the variables by which driftline, dbt and boto3 find the part."""

    @abstractmethod
    def address(self, variables: Mapping[str, str]) -> str:
        """Give the address to show to people; no password in it."""

    @abstractmethod
    def is_ready(self, variables: Mapping[str, str]) -> bool:
        """Say whether the part answers now, within two seconds."""

    def credentials(self) -> dict[str, str]:
        """Generate the secrets that the part takes from its environment."""
        return {}


def _answers(port: str, path: str, headers: Mapping[str, str] | None = None) -> bool:
    connection = http.client.HTTPConnection(_LOOPBACK, int(port), timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_file(home: Path, part: str) -> Path:
    """Give the file in which `part` says its port."""
    return home / "run" / f"{part}.port"


class ClickHousePart(Part):
    """ClickHouse over HTTP on chDB. Its data stay between starts, its passwords do not."""

    name = "clickhouse"
    title = "ClickHouse (chDB over HTTP)"
    module = "sandbox.clickhouse_server"
    given_by = ("CLICKHOUSE_HOST",)
    useless_alone = (
        *("CLICKHOUSE_PORT", "CLICKHOUSE_SECURE", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD"),
        "CLICKHOUSE_ANALYST_*",
    )

    def arguments(self, home: Path, environment: Mapping[str, str]) -> list[str]:  # noqa: ARG002
        """Name the data directory of this home, and any free port."""
        return ["--data", str(home / "clickhouse"), "--port", "0"]

    def credentials(self) -> dict[str, str]:
        """Generate the passwords of the administrator and of the read-only analyst."""
        return {
            "SANDBOX_CLICKHOUSE_PASSWORD": secrets.token_urlsafe(24),
            "SANDBOX_ANALYST_PASSWORD": secrets.token_urlsafe(24),
        }

    def variables(self, port: int, credentials: Mapping[str, str]) -> dict[str, str]:
        """Give the addresses of both accounts."""
        return {
            "CLICKHOUSE_HOST": _LOOPBACK,
            "CLICKHOUSE_PORT": str(port),
            "CLICKHOUSE_USER": "default",
            "CLICKHOUSE_PASSWORD": credentials["SANDBOX_CLICKHOUSE_PASSWORD"],
            "CLICKHOUSE_SECURE": "false",
            "CLICKHOUSE_DATABASE": "driftline",
            "CLICKHOUSE_RAW_DATABASE": "raw",
            "CLICKHOUSE_ANALYST_USER": "analyst",
            "CLICKHOUSE_ANALYST_PASSWORD": credentials["SANDBOX_ANALYST_PASSWORD"],
        }

    def address(self, variables: Mapping[str, str]) -> str:
        """Give the URL."""
        return f"http://{variables['CLICKHOUSE_HOST']}:{variables['CLICKHOUSE_PORT']}"

    def is_ready(self, variables: Mapping[str, str]) -> bool:
        """Run a query with the administrator's password."""
        return _answers(
            variables["CLICKHOUSE_PORT"],
            "/?query=SELECT%201",
            {
                "X-ClickHouse-User": variables["CLICKHOUSE_USER"],
                "X-ClickHouse-Key": variables["CLICKHOUSE_PASSWORD"],
            },
        )


class KafkaPart(Part):
    """librdkafka's mock broker."""

    name = "kafka"
    title = "Kafka (librdkafka's mock broker)"
    module = "sandbox.kafka_broker"
    given_by = ("KAFKA_BOOTSTRAP_SERVERS",)
    useless_alone = ("KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_*", "KAFKA_SSL_*")

    def arguments(self, home: Path, environment: Mapping[str, str]) -> list[str]:
        """Name the topics as the settings have them, and the file of the ids it has had."""
        names = KafkaSettings.from_environment({**environment, "KAFKA_BOOTSTRAP_SERVERS": "-"})
        return [
            *("--used-cluster-ids", str(home / "kafka-cluster-ids")),
            *("--topic", names.predictions_topic, "--topic", names.labels_topic),
        ]

    def variables(self, port: int, credentials: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        """Give the broker's address."""
        return {"KAFKA_BOOTSTRAP_SERVERS": f"{_LOOPBACK}:{port}"}

    def address(self, variables: Mapping[str, str]) -> str:
        """Give the bootstrap server."""
        return variables["KAFKA_BOOTSTRAP_SERVERS"]

    def is_ready(self, variables: Mapping[str, str]) -> bool:
        """Ask the broker for its metadata."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient(
            {"bootstrap.servers": variables["KAFKA_BOOTSTRAP_SERVERS"], "log_level": 0}
        )
        try:
            return bool(client.list_topics(timeout=_PROBE_SECONDS).brokers)
        except KafkaException:
            return False


class AwsPart(Part):
    """S3 with a bucket for the archive, CloudWatch and SNS by moto."""

    name = "aws"
    title = "AWS (moto: S3, CloudWatch, SNS)"
    module = "sandbox.aws_server"
    # An endpoint or credentials of one's own: then real AWS (or a stand-in of one's own) is meant.
    given_by = (
        "AWS_ENDPOINT_URL*",
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )

    def arguments(self, home: Path, environment: Mapping[str, str]) -> list[str]:  # noqa: ARG002
        """Name the archive's bucket: moto forgets it with everything else when it stops."""
        archive = {"DRIFTLINE_ARCHIVE_URL": _ARCHIVE_URL, **environment}
        return ["--bucket", ArchiveSettings.from_environment(archive).bucket]

    def variables(self, port: int, credentials: Mapping[str, str]) -> dict[str, str]:  # noqa: ARG002
        """Give the endpoint for every service, a region, keys that open nothing, the archive."""
        return {
            "AWS_ENDPOINT_URL": f"http://{_LOOPBACK}:{port}",
            "AWS_ACCESS_KEY_ID": "driftline-sandbox",
            "AWS_SECRET_ACCESS_KEY": "driftline-sandbox",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DRIFTLINE_ARCHIVE_URL": _ARCHIVE_URL,
        }

    def address(self, variables: Mapping[str, str]) -> str:
        """Give the endpoint."""
        return variables["AWS_ENDPOINT_URL"]

    def is_ready(self, variables: Mapping[str, str]) -> bool:
        """Ask for moto's own status page."""
        return _answers(variables["AWS_ENDPOINT_URL"].rpartition(":")[2], "/moto-api/data.json")


PARTS: tuple[Part, ...] = (ClickHousePart(), KafkaPart(), AwsPart())
