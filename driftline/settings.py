"""Where the systems are: ClickHouse, Kafka and the project's own folders, from the environment.

Production and sandbox differ in these variables only. `driftline sandbox up` writes its own to
an env file; `load_sandbox_environment` puts them under whatever the real environment says. One that
is set to nothing counts as not set: so do container files write what nobody gave.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

TARGETS = ("sandbox", "prod", "cluster")


class SettingsError(ValueError):
    """A variable is missing or wrong. The message names it and the remedy."""


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the folder that holds everything driftline writes on this machine."""
    return Path(environment.get("DRIFTLINE_HOME") or ".driftline").absolute()


def sandbox_env_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the file that `driftline sandbox up` writes: one NAME=value a line."""
    return home(environment) / "sandbox.env"


def target(environment: Mapping[str, str] = os.environ) -> str:
    """Give the dbt target in use: sandbox, prod or cluster."""
    name = environment.get("DRIFTLINE_TARGET") or "sandbox"
    if name not in TARGETS:
        raise SettingsError(f"DRIFTLINE_TARGET={name!r} is not one of {', '.join(TARGETS)}")
    return name


def read_env_file(path: Path) -> dict[str, str]:
    """Give the variables in a file of NAME=value lines; none where there is no such file."""
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value for name, separator, value in pairs if separator}


def load_sandbox_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the running sandbox's variables to `environment`, never overriding one that is set.

    What `driftline sandbox env` exported from an earlier start of the sandbox gives way: its
    ports and passwords are dead.
    """
    if target(environment) != "sandbox":
        return
    written = read_env_file(sandbox_env_file(environment))
    exported_id = environment.get("DRIFTLINE_SANDBOX_ID")
    if exported_id is not None and exported_id != written.get("DRIFTLINE_SANDBOX_ID"):
        for name in environment.get("DRIFTLINE_SANDBOX_VARIABLES", "").split():
            environment.pop(name, None)
    for name, value in written.items():
        if not environment.get(name):
            environment[name] = value


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(
            f"{name} is not set: start the sandbox (driftline sandbox up), "
            f"or set {name} to the address of your own system"
        )
    return value


def _flag(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").strip().lower()
    if value in ("", "0", "false", "no"):
        return False
    if value in ("1", "true", "yes"):
        return True
    raise SettingsError(f"{name}={value!r} is neither true nor false")


def _integer(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, "")
    try:
        return int(value) if value else default
    except ValueError:
        raise SettingsError(f"{name}={value!r} is not a whole number") from None


@dataclass(frozen=True)
class ClusterSettings:
    """A ClickHouse cluster: its name in `system.clusters`, and how many nodes of it hold what."""

    name: str
    shards: int
    replicas: int

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ
    ) -> ClusterSettings | None:
        """Read the variables of target `cluster`; None for another target.

        Raises SettingsError naming the one that is missing or wrong.
        """
        if target(environment) != "cluster":
            return None
        counts = {}
        for name in ("CLICKHOUSE_SHARDS", "CLICKHOUSE_REPLICAS"):
            counts[name] = _integer(environment, name, 0)
            if counts[name] < 1:
                raise SettingsError(
                    f"{name} is not set to 1 or more: DRIFTLINE_TARGET=cluster needs the number of "
                    "the cluster's shards and that of each shard's replicas"
                )
        return cls(environment.get("CLICKHOUSE_CLUSTER") or "default", *counts.values())

    @property
    def client_settings(self) -> Mapping[str, str | int]:
        """The settings of a client that writes to the cluster and joins its tables."""
        return {
            # A row is acknowledged when each replica of its shard has it: whichever is asked next
            # knows of it.
            "insert_quorum": self.replicas,
            "distributed_foreground_insert": 1,
            # What a shard is to compare with comes from the node that was asked.
            "distributed_product_mode": "global",
            "prefer_global_in_and_join": 1,
        }


@dataclass(frozen=True)
class ClickHouseSettings:
    """How to reach ClickHouse over HTTP, and which databases hold what."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    secure: bool
    database: str
    raw_database: str
    cluster: ClusterSettings | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ClickHouseSettings:
        """Read the CLICKHOUSE_* variables; raise SettingsError naming the one that is wrong."""
        secure = _flag(environment, "CLICKHOUSE_SECURE")
        return cls(
            host=_required(environment, "CLICKHOUSE_HOST"),
            port=_integer(environment, "CLICKHOUSE_PORT", 8443 if secure else 8123),
            user=environment.get("CLICKHOUSE_USER") or "default",
            password=environment.get("CLICKHOUSE_PASSWORD", ""),
            secure=secure,
            database=environment.get("CLICKHOUSE_DATABASE") or "driftline",
            raw_database=environment.get("CLICKHOUSE_RAW_DATABASE") or "raw",
            cluster=ClusterSettings.from_environment(environment),
        )

    @classmethod
    def for_analyst(cls, environment: Mapping[str, str] = os.environ) -> ClickHouseSettings:
        """Like `from_environment`, with the read-only account of CLICKHOUSE_ANALYST_*."""
        as_analyst = dict(environment)
        as_analyst["CLICKHOUSE_USER"] = _required(environment, "CLICKHOUSE_ANALYST_USER")
        as_analyst["CLICKHOUSE_PASSWORD"] = environment.get("CLICKHOUSE_ANALYST_PASSWORD", "")
        return cls.from_environment(as_analyst)


def predictions_topic(environment: Mapping[str, str] = os.environ) -> str:
    """Give the name of the topic of predictions."""
    return environment.get("DRIFTLINE_PREDICTIONS_TOPIC") or "predictions"


def labels_topic(environment: Mapping[str, str] = os.environ) -> str:
    """Give the name of the topic of labels."""
    return environment.get("DRIFTLINE_LABELS_TOPIC") or "labels"


@dataclass(frozen=True)
class ArchiveSettings:
    """Where the archive of raw events is; `prefix` is empty or ends in a slash."""

    bucket: str
    prefix: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ArchiveSettings:
        """Read DRIFTLINE_ARCHIVE_URL; raise SettingsError where it is missing or no S3 URL."""
        url = environment.get("DRIFTLINE_ARCHIVE_URL", "")
        scheme, separator, path = url.partition("://")
        bucket, _, prefix = path.partition("/")
        if scheme != "s3" or not separator or not bucket:
            raise SettingsError(
                "DRIFTLINE_ARCHIVE_URL "
                + (f"{url!r} is not of the form" if url else "is not set: set it to")
                + " s3://bucket/prefix"
            )
        prefix = prefix.strip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    @property
    def url(self) -> str:
        """The archive's address as a person writes it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


# driftline's variable -> librdkafka's property
_KAFKA_PROPERTIES = {
    "KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "KAFKA_SASL_MECHANISM": "sasl.mechanism",
    "KAFKA_SASL_USERNAME": "sasl.username",
    "KAFKA_SASL_PASSWORD": "sasl.password",
    "KAFKA_SSL_CA_LOCATION": "ssl.ca.location",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "ssl.certificate.location",
    "KAFKA_SSL_KEY_LOCATION": "ssl.key.location",
}


def _check_kafka_access(environment: Mapping[str, str]) -> None:
    """Raise SettingsError for what librdkafka would refuse in words of its own."""
    for name in _KAFKA_PROPERTIES:
        path = environment.get(name, "") if name.endswith("_LOCATION") else ""
        # "probe" lets librdkafka look for the system's authorities.
        if path not in ("", "probe") and not Path(path).exists():
            raise SettingsError(f"{name}={path!r} does not exist: set it to a file of PEM")
    protocol = environment.get("KAFKA_SECURITY_PROTOCOL", "")
    if protocol.upper().startswith("SASL") and not environment.get("KAFKA_SASL_MECHANISM"):
        raise SettingsError(
            f"KAFKA_SASL_MECHANISM is not set: KAFKA_SECURITY_PROTOCOL={protocol} needs it, such "
            "as SCRAM-SHA-512 or PLAIN"
        )


@dataclass(frozen=True)
class KafkaSettings:
    """How to reach Kafka, and the names of topics and consumer group."""

    bootstrap_servers: str
    predictions_topic: str
    labels_topic: str
    consumer_group: str
    properties: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> KafkaSettings:
        """Read the KAFKA_* and DRIFTLINE_* variables; raise SettingsError naming a wrong one."""
        _check_kafka_access(environment)
        return cls(
            bootstrap_servers=_required(environment, "KAFKA_BOOTSTRAP_SERVERS"),
            predictions_topic=predictions_topic(environment),
            labels_topic=labels_topic(environment),
            consumer_group=environment.get("DRIFTLINE_CONSUMER_GROUP") or "driftline-loader",
            properties={
                librdkafka: environment[ours]
                for ours, librdkafka in _KAFKA_PROPERTIES.items()
                if environment.get(ours)
            },
        )

    def client_configuration(self) -> dict[str, str]:
        """Give the librdkafka properties that every producer and consumer starts from."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.properties}
