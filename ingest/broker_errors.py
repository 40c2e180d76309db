"""What keeps a Kafka client from its brokers, in words that say what to do about it.

librdkafka tries again for ever and answers requests with nothing but "transport failure". Why, it
says to the client's `error_cb` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException

_CREDENTIALS = "Correct KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or KAFKA_SASL_MECHANISM"
_CERTIFICATES = (
    "Set KAFKA_SSL_CA_LOCATION to the authority that signed the broker's certificate; where the "
    "broker asks for the client's, KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION"
)
_ADDRESS = (
    "See whether it runs, and whether KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL are right"
)

# What a request ends with while no broker can be reached.
_UNANSWERED = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._ALL_BROKERS_DOWN,
)


@dataclass(frozen=True)
class Complaint:
    """Why brokers cannot be reached, which ones, and what to do.

    `is_refusal`: they answer, and refuse this client; it does not pass by itself. `code` is
    librdkafka's.
    """

    code: int
    text: str
    is_refusal: bool


class BrokerErrors:
    """Collects what one client of the brokers `servers` reports; `note` is its `error_cb`.

    librdkafka calls that while the client is polled, and only then.
    """

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._refusal: Complaint | None = None
        self._trouble: str | None = None
        self._news: Complaint | None = None

    def note(self, error: KafkaError) -> None:
        """Take an error of the client."""
        code, text = error.code(), error.str()
        if code == KafkaError._AUTHENTICATION:
            self._refuse(code, text, _CREDENTIALS)
        # A broker that turns down the client's certificate just says so and hangs up.
        elif code == KafkaError._SSL or "SSL routines" in text:
            self._refuse(KafkaError._SSL, text, _CERTIFICATES)
        elif code == KafkaError._ALL_BROKERS_DOWN:
            if self._news is None or not self._news.is_refusal:
                self._news = self._silence(code)
        else:
            self._trouble = text

    def news(self) -> Complaint | None:
        """Give the last refusal, or word that no broker answers, since this was last asked."""
        news, self._news = self._news, None
        return news

    def explained(self, error: KafkaException) -> KafkaException:
        """Give the error of a request with the reason, where it went unanswered.

        The reason is what was noted since the last time.
        """
        code = error.args[0].code()
        if code not in _UNANSWERED:
            return error
        complaint = self._refusal or self._silence(code)
        self._refusal = self._trouble = None
        return KafkaException(KafkaError(complaint.code, complaint.text))

    def _refuse(self, code: int, text: str, remedy: str) -> None:
        self._refusal = self._news = Complaint(code, f"{text}. {remedy}", is_refusal=True)

    def _silence(self, code: int) -> Complaint:
        reason = f"{self._servers} does not answer"
        if self._trouble is not None:
            reason += f": {self._trouble}"
        return Complaint(code, f"{reason}. {_ADDRESS}", is_refusal=False)
