"""TLS and SASL on a real broker: everything works with KAFKA_* alone, and a refusal says why."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from confluent_kafka import KafkaException

from driftline import PredictionLogger
from driftline.settings import KafkaSettings
from ingest.lag import LagReader
from ingest.raw_tables import PREDICTION_EVENTS
from tests.faults.conftest import FaultSystems, systems_on_kafka
from tests.ingest.loading import DEADLINE, wait_for
from tests.kafka.certificates import Authority, Certified
from tests.kafka.cluster import KafkaCluster, Listener
from tests.kafka.jars import JarsUnavailableError
from tests.warehouse_fixtures import ClickHouseProcess

pytestmark = pytest.mark.faults

USER, PASSWORD = "driftline-loader", "right-kafka-password"
PLAIN_USER, PLAIN_PASSWORD = "driftline-plain", "plain-kafka-password"
WRONG_PASSWORD = "wrong-kafka-password"

_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secured:
    """A cluster behind TLS, the authority that its clients must trust, and another one."""

    cluster: KafkaCluster
    authority: Authority
    stranger: Authority
    client: Certified

    def scram(self, **changed: str) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.cluster.servers("SASL"),
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CA_LOCATION": str(self.authority.certificate),
            **changed,
        }

    def plain(self) -> dict[str, str]:
        return self.scram(
            KAFKA_SASL_MECHANISM="PLAIN",
            KAFKA_SASL_USERNAME=PLAIN_USER,
            KAFKA_SASL_PASSWORD=PLAIN_PASSWORD,
        )

    def certified(self, **changed: str) -> dict[str, str]:
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.cluster.servers("MUTUAL"),
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CA_LOCATION": str(self.authority.certificate),
            "KAFKA_SSL_CERTIFICATE_LOCATION": str(self.client.certificate),
            "KAFKA_SSL_KEY_LOCATION": str(self.client.key),
            **changed,
        }


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    """Run a node with two more listeners: SASL over TLS, and TLS that asks for a certificate."""
    with tempfile.TemporaryDirectory(prefix="driftline-kafka-", ignore_cleanup_errors=True) as path:
        folder = Path(path)
        authority = Authority(folder / "authority")
        key_store = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": authority.issue("broker").both,
        }
        listeners = {
            "SASL": Listener(
                "SASL_SSL",
                {
                    **key_store,
                    "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
                    "scram-sha-512.sasl.jaas.config": (
                        f"{_MODULES}.scram.ScramLoginModule required;"
                    ),
                    "plain.sasl.jaas.config": (
                        f"{_MODULES}.plain.PlainLoginModule required "
                        f'user_{PLAIN_USER}="{PLAIN_PASSWORD}";'
                    ),
                },
            ),
            "MUTUAL": Listener(
                "SSL",
                {
                    **key_store,
                    "ssl.client.auth": "required",
                    "ssl.truststore.type": "PEM",
                    "ssl.truststore.location": authority.certificate,
                },
            ),
        }
        try:
            cluster = KafkaCluster(folder / "kafka", listeners=listeners)
        except JarsUnavailableError as error:
            pytest.skip(f"Apache Kafka cannot run here: {error}")
        with cluster:
            cluster.admin.set_password(USER, PASSWORD)
            stranger = Authority(folder / "stranger", "somebody else")
            yield Secured(cluster, authority, stranger, authority.issue("client"))


@pytest.fixture
def systems(clickhouse_server: ClickHouseProcess, secured: Secured) -> Iterator[FaultSystems]:
    """Give topics, a group and a raw database of the secured cluster's; not how to get in."""
    found = systems_on_kafka(clickhouse_server, secured.cluster, 1)
    yield found
    found.client.command(f"drop database if exists {found.raw_database} sync")
    found.client.close()


def driftline(
    systems: FaultSystems, access: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        env={**systems.process_environment(), **access},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )


def settings(systems: FaultSystems, access: Mapping[str, str]) -> KafkaSettings:
    return KafkaSettings.from_environment({**systems.environment, **access})


@pytest.mark.parametrize("way", ["scram", "plain", "certified"])
def test_everything_works_with_the_variables_alone(
    systems: FaultSystems, secured: Secured, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    access: dict[str, str] = getattr(secured, way)()
    for name, value in {**systems.environment, **access}.items():
        monkeypatch.setenv(name, value)

    logger = PredictionLogger("model", model_version="1", topic=systems.topic)
    logged = [logger.log({"feature": number}, score=0.5) for number in range(300)]
    logger.close()
    assert logger.counters().delivered == 300

    with LagReader(settings(systems, access)) as reader:
        assert sum(reader.lag().values()) == 300
    loaded = driftline(systems, access, "load", "--until-caught-up")
    assert loaded.returncode == 0, loaded.stderr
    assert sorted(systems.prediction_ids()) == sorted(logged)
    with LagReader(settings(systems, access)) as reader:
        assert set(reader.lag().values()) == {0}

    # A message is taken out of the table, so that the broker has to be asked, and gives it again.
    systems.client.command(
        f"alter table {systems.raw_database}.{PREDICTION_EVENTS} "
        "delete where partition = 0 and offset = 1",
        settings={"mutations_sync": 2},
    )
    asked = driftline(systems, access, "verify", "--ask-kafka")
    assert asked.returncode == 1
    assert "1 messages were missed" in asked.stderr
    repaired = driftline(systems, access, "verify", "--repair")
    assert repaired.returncode == 0, repaired.stderr
    assert sorted(systems.prediction_ids()) == sorted(logged)


REFUSALS = {
    "password": "KAFKA_SASL_PASSWORD",
    "mechanism": "KAFKA_SASL_MECHANISM",
    "authority": "KAFKA_SSL_CA_LOCATION",
    "certificate": "KAFKA_SSL_CERTIFICATE_LOCATION",
}


def refused_access(secured: Secured, why: str) -> dict[str, str]:
    match why:
        case "password":
            return secured.scram(KAFKA_SASL_PASSWORD=WRONG_PASSWORD)
        case "mechanism":
            return secured.scram(KAFKA_SASL_MECHANISM="SCRAM-SHA-256")
        case "authority":
            return secured.scram(KAFKA_SSL_CA_LOCATION=str(secured.stranger.certificate))
        case _:
            mine = secured.stranger.issue("client")
            return secured.certified(
                KAFKA_SSL_CERTIFICATE_LOCATION=str(mine.certificate),
                KAFKA_SSL_KEY_LOCATION=str(mine.key),
            )


def assert_explained(text: str, access: Mapping[str, str], remedy: str) -> None:
    assert access["KAFKA_BOOTSTRAP_SERVERS"] in text
    assert remedy in text
    for secret in (PASSWORD, PLAIN_PASSWORD, WRONG_PASSWORD):
        assert secret not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(("why", "remedy"), REFUSALS.items())
def test_refusal_ends_a_bounded_run_with_its_reason(
    systems: FaultSystems, secured: Secured, why: str, remedy: str
) -> None:
    access = refused_access(secured, why)
    refused = driftline(systems, access, "load", "--until-caught-up")
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("error: Kafka: ")
    assert_explained(last, access, remedy)
    assert_explained(refused.stdout + refused.stderr, access, remedy)


@pytest.mark.parametrize(("why", "remedy"), REFUSALS.items())
def test_refusal_is_the_reason_that_others_give(
    systems: FaultSystems,
    secured: Secured,
    why: str,
    remedy: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = refused_access(secured, why)
    with LagReader(settings(systems, access)) as reader, pytest.raises(KafkaException) as refused:
        reader.lag()
    assert_explained(refused.value.args[0].str(), access, remedy)

    for name, value in {**systems.environment, **access}.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.INFO):
        logger = PredictionLogger("model", model_version="1", topic=systems.topic)
        logger.log({"feature": 1}, score=0.5)
        wait_for(lambda: remedy in caplog.text)
        logger.close(timeout=0)
    assert_explained(caplog.text, access, remedy)
    assert logger.counters().delivered == 0

    systems.send(30)
    systems.load()
    systems.client.command(
        f"alter table {systems.raw_database}.{PREDICTION_EVENTS} "
        "delete where partition = 0 and offset = 1",
        settings={"mutations_sync": 2},
    )
    asked = driftline(systems, access, "verify", "--ask-kafka")
    assert asked.returncode == 1
    assert_explained(asked.stdout + asked.stderr, access, remedy)


def test_refused_loader_goes_on_trying_and_is_let_in_once_that_is_mended(
    systems: FaultSystems, secured: Secured, tmp_path: Path
) -> None:
    systems.send(30)
    user = f"late-{systems.raw_database}"
    access = secured.scram(KAFKA_SASL_USERNAME=user, KAFKA_SASL_PASSWORD=PASSWORD)
    log = tmp_path / "loader.log"
    with log.open("wb") as output:
        loader = subprocess.Popen(
            [sys.executable, "-m", "driftline", "load", "--listen", "127.0.0.1:0"],
            env={**systems.process_environment(), **access},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: "Trying again" in log.read_text())
        assert " ERROR Kafka: " in log.read_text()
        assert_explained(log.read_text(), access, "KAFKA_SASL_PASSWORD")
        address = next(
            word for word in log.read_text().split() if word.endswith("/metrics")
        ).replace("/metrics", "/readyz")
        unready = urllib3.request("GET", address, retries=False)
        assert unready.status == 503
        assert_explained(unready.data.decode(), access, "KAFKA_SASL_PASSWORD")
        assert systems.landed() == {}

        secured.cluster.admin.set_password(user, PASSWORD)
        wait_for(lambda: systems.landed() == systems.acknowledged)
        assert urllib3.request("GET", address, retries=False).status == 200
        loader.send_signal(signal.SIGTERM)
        assert loader.wait(DEADLINE) == 0, log.read_text()
    finally:
        if loader.poll() is None:
            loader.kill()
        loader.wait()


def test_plain_client_of_a_listener_with_tls_is_told_of_the_protocol(
    systems: FaultSystems, secured: Secured
) -> None:
    access = {"KAFKA_BOOTSTRAP_SERVERS": secured.cluster.servers("SASL")}
    with LagReader(settings(systems, access)) as reader, pytest.raises(KafkaException) as refused:
        reader.lag()
    assert_explained(refused.value.args[0].str(), access, "KAFKA_SECURITY_PROTOCOL")
