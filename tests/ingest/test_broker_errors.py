"""What keeps a client from its brokers is said with a remedy; real refusals are in tests/faults."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.broker_errors import BrokerErrors
from ingest.loader import LoaderError, StopWhen
from ingest.topic_identity import TopicIdentities
from tests.ingest.conftest import Systems

UNANSWERED = KafkaException(KafkaError(KafkaError._TRANSPORT, "Failed to get metadata"))
LOGIN = KafkaError(KafkaError._AUTHENTICATION, "sasl_ssl://broker:9093/1: invalid credentials")
ALL_DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (LOGIN, "KAFKA_SASL_PASSWORD"),
        (KafkaError(KafkaError._SSL, "ssl://broker:9093: verify failed"), "KAFKA_SSL_CA_LOCATION"),
        (
            KafkaError(KafkaError._TRANSPORT, "ssl://broker:9093: SSL routines::bad certificate"),
            "KAFKA_SSL_CERTIFICATE_LOCATION",
        ),
    ],
)
def test_refusal_is_news_with_a_remedy_and_silence_does_not_hide_it(
    error: KafkaError, remedy: str
) -> None:
    errors = BrokerErrors("broker:9093")
    errors.note(error)
    errors.note(ALL_DOWN)
    news = errors.news()
    assert news is not None
    assert news.is_refusal
    assert news.text.startswith(error.str())
    assert remedy in news.text
    assert errors.news() is None
    assert remedy in errors.explained(UNANSWERED).args[0].str()


def test_silence_names_the_brokers_and_what_they_last_did() -> None:
    errors = BrokerErrors("broker:9093")
    errors.note(KafkaError(KafkaError._TRANSPORT, "broker:9093/1: Connection refused"))
    assert errors.news() is None  # connections come and go
    errors.note(ALL_DOWN)
    news = errors.news()
    assert news is not None
    assert not news.is_refusal
    assert news.text.startswith("broker:9093 does not answer: broker:9093/1: Connection refused")
    assert "KAFKA_BOOTSTRAP_SERVERS" in news.text


def test_reason_is_that_of_this_failure_not_of_an_earlier_one() -> None:
    errors = BrokerErrors("broker:9093")
    errors.note(LOGIN)
    errors.explained(UNANSWERED)
    assert "invalid credentials" not in errors.explained(UNANSWERED).args[0].str()
    other = KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
    assert errors.explained(other) is other


def test_broker_that_is_not_there_is_named() -> None:
    identities = TopicIdentities({"bootstrap.servers": "127.0.0.1:1"}, timeout=0.5)
    with pytest.raises(KafkaException) as silent:
        identities.of("predictions")
    text = silent.value.args[0].str()
    assert text.startswith("127.0.0.1:1 does not answer: 127.0.0.1:1/bootstrap: Connect to")


def test_bounded_run_that_no_broker_answers_ends_after_a_minute(systems: Systems) -> None:
    systems.environment["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 2.0
        return now

    loader = systems.loader(clock=clock)
    with pytest.raises(LoaderError, match=r"127\.0\.0\.1:1 does not answer"):
        loader.run(StopWhen(is_caught_up=True))
    assert now > 60
    assert "KAFKA_BOOTSTRAP_SERVERS" in str(loader.status().broker_problem)
