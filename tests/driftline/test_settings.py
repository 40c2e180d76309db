"""The environment says where the systems are; a wrong variable is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from driftline.settings import (
    ClickHouseSettings,
    KafkaSettings,
    SettingsError,
    home,
    labels_topic,
    load_sandbox_environment,
    predictions_topic,
    target,
)

CLICKHOUSE = {"CLICKHOUSE_HOST": "ch", "CLICKHOUSE_PASSWORD": "secret"}
KAFKA = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092"}


def test_clickhouse_has_defaults_beside_its_host() -> None:
    settings = ClickHouseSettings.from_environment(CLICKHOUSE)
    assert (settings.host, settings.port, settings.user) == ("ch", 8123, "default")
    assert (settings.database, settings.raw_database) == ("driftline", "raw")
    assert not settings.secure


def test_secure_clickhouse_has_its_own_port() -> None:
    settings = ClickHouseSettings.from_environment({**CLICKHOUSE, "CLICKHOUSE_SECURE": "true"})
    assert (settings.secure, settings.port) == (True, 8443)


def test_analyst_has_another_account() -> None:
    settings = ClickHouseSettings.for_analyst(
        {**CLICKHOUSE, "CLICKHOUSE_ANALYST_USER": "ann", "CLICKHOUSE_ANALYST_PASSWORD": "pass"}
    )
    assert (settings.user, settings.password) == ("ann", "pass")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "CLICKHOUSE_HOST"),
        ({**CLICKHOUSE, "CLICKHOUSE_PORT": "http"}, "CLICKHOUSE_PORT"),
        ({**CLICKHOUSE, "CLICKHOUSE_SECURE": "perhaps"}, "CLICKHOUSE_SECURE"),
    ],
)
def test_wrong_clickhouse_variable_is_named(environment: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        ClickHouseSettings.from_environment(environment)


def test_analyst_without_account_is_named() -> None:
    with pytest.raises(SettingsError, match="CLICKHOUSE_ANALYST_USER"):
        ClickHouseSettings.for_analyst(CLICKHOUSE)


def test_kafka_has_defaults_beside_its_address() -> None:
    settings = KafkaSettings.from_environment(KAFKA)
    assert settings.predictions_topic == "predictions"
    assert settings.labels_topic == "labels"
    assert settings.consumer_group == "driftline-loader"
    assert settings.client_configuration() == {"bootstrap.servers": "broker:9092"}


def test_kafka_security_goes_to_every_client() -> None:
    settings = KafkaSettings.from_environment(
        {
            **KAFKA,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": "me",
            "KAFKA_SASL_PASSWORD": "secret",
            "KAFKA_SSL_CA_LOCATION": "",
        }
    )
    assert settings.client_configuration() == {
        "bootstrap.servers": "broker:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "me",
        "sasl.password": "secret",
    }


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"KAFKA_SSL_CA_LOCATION": "/nowhere/authority.pem"}, "KAFKA_SSL_CA_LOCATION='/nowhere"),
        ({"KAFKA_SSL_KEY_LOCATION": "/nowhere/my.key"}, "KAFKA_SSL_KEY_LOCATION='/nowhere"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_MECHANISM is not set"),
    ],
)
def test_kafka_access_that_cannot_work_names_its_variable(
    variables: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        KafkaSettings.from_environment({**KAFKA, **variables})


def test_missing_kafka_address_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match="driftline sandbox up"):
        KafkaSettings.from_environment({})


@pytest.mark.parametrize(
    "settings",
    [
        ClickHouseSettings.from_environment(CLICKHOUSE),
        KafkaSettings.from_environment({**KAFKA, "KAFKA_SASL_PASSWORD": "secret"}),
    ],
)
def test_secrets_are_not_shown(settings: object) -> None:
    assert "secret" not in repr(settings)


def test_topics_may_be_renamed() -> None:
    assert predictions_topic({"DRIFTLINE_PREDICTIONS_TOPIC": "p"}) == "p"
    assert labels_topic({"DRIFTLINE_LABELS_TOPIC": ""}) == "labels"


def test_variable_that_is_set_to_nothing_is_not_set(tmp_path: Path) -> None:
    names = (
        "CLICKHOUSE_PORT", "CLICKHOUSE_USER", "CLICKHOUSE_DATABASE", "CLICKHOUSE_RAW_DATABASE",
        "CLICKHOUSE_SECURE", "CLICKHOUSE_CLUSTER", "KAFKA_SECURITY_PROTOCOL",
        "DRIFTLINE_CONSUMER_GROUP", "DRIFTLINE_PREDICTIONS_TOPIC", "DRIFTLINE_LABELS_TOPIC",
        "DRIFTLINE_HOME", "DRIFTLINE_TARGET",
    )  # fmt: skip
    empty = dict.fromkeys(names, "")
    assert ClickHouseSettings.from_environment(
        {**empty, **CLICKHOUSE}
    ) == ClickHouseSettings.from_environment(CLICKHOUSE)
    assert KafkaSettings.from_environment({**empty, **KAFKA}) == KafkaSettings.from_environment(
        KAFKA
    )
    assert home(empty) == home({})
    assert target(empty) == target({})
    assert predictions_topic(empty) == predictions_topic({})
    assert labels_topic(empty) == labels_topic({})
    (tmp_path / "sandbox.env").write_text("CLICKHOUSE_USER=sandbox-user\n")
    environment = {**empty, "DRIFTLINE_HOME": str(tmp_path)}
    load_sandbox_environment(environment)
    assert environment["CLICKHOUSE_USER"] == "sandbox-user"


def test_unknown_target_is_refused() -> None:
    assert target({}) == "sandbox"
    with pytest.raises(SettingsError, match="'staging' is not one of sandbox, prod, cluster"):
        target({"DRIFTLINE_TARGET": "staging"})


def test_sandbox_variables_never_override_the_environment(tmp_path: Path) -> None:
    (tmp_path / "sandbox.env").write_text("CLICKHOUSE_HOST=127.0.0.1\nCLICKHOUSE_PORT=18123\n")
    environment = {"DRIFTLINE_HOME": str(tmp_path), "CLICKHOUSE_HOST": "mine"}
    load_sandbox_environment(environment)
    assert environment["CLICKHOUSE_HOST"] == "mine"
    assert environment["CLICKHOUSE_PORT"] == "18123"


def test_other_targets_ignore_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "sandbox.env").write_text("CLICKHOUSE_HOST=127.0.0.1\n")
    environment = {"DRIFTLINE_HOME": str(tmp_path), "DRIFTLINE_TARGET": "prod"}
    load_sandbox_environment(environment)
    assert "CLICKHOUSE_HOST" not in environment
    assert home(environment) == tmp_path
