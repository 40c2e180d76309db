"""Whether the brokers let a loader's consumer in: told while it waits, and when to give up."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ingest.broker_errors import Complaint

_log = logging.getLogger("driftline.loader")

_REMIND_SECONDS = 30.0
# A bounded run that no broker lets in ends after so long: refused, or without an answer. Brokers
# that have just started refuse for a moment.
_REFUSED_SECONDS = 5.0
_UNANSWERED_SECONDS = 60.0


class Admission:
    """Keeps what the brokers complain of until the consumer is in its group.

    `complaint` gives what has newly kept the consumer from its brokers; `now` is the clock's.
    """

    def __init__(self, complaint: Callable[[], Complaint | None], *, now: float) -> None:
        self._complaint = complaint
        self._kept_out: Complaint | None = None
        self._since = now
        self._remind_at = now

    @property
    def problem(self) -> str | None:
        """What keeps the consumer out, in words; None once it was let in."""
        return None if self._kept_out is None else self._kept_out.text

    def grant(self) -> None:
        """Note that the consumer is in its group."""
        self._kept_out = None

    def look(self, now: float, *, is_member: bool) -> bool:
        """Log what keeps the consumer from its brokers; say whether waiting longer is vain."""
        complaint = self._complaint()
        if complaint is not None:
            if now >= self._remind_at:
                self._remind_at = now + _REMIND_SECONDS
                level = logging.ERROR if complaint.is_refusal else logging.WARNING
                _log.log(level, "Kafka: %s. Trying again", complaint.text)
            if is_member:
                return False
            was_refused = self._kept_out is not None and self._kept_out.is_refusal
            if self._kept_out is None or (complaint.is_refusal and not was_refused):
                self._since = now
            if complaint.is_refusal or not was_refused:
                self._kept_out = complaint
        if self._kept_out is None:
            return False
        # Silence is told once and lasts; a refusal lasts as long as it is told again.
        is_refused_again = complaint is not None and complaint.is_refusal
        longest = _REFUSED_SECONDS if is_refused_again else _UNANSWERED_SECONDS
        return now - self._since >= longest
