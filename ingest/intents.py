"""Intents: what a loader is about to insert, kept by Kafka beside the committed offset.

Why they are there is in docs/ingest.md. Nothing here does I/O.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date

_INTENT_VERSION = 1


class IntentError(ValueError):
    """Commit metadata that is no intent of this version. The message says why."""


@dataclass(frozen=True)
class Intent:
    """A batch that was about to be inserted, as Kafka keeps it beside the committed offset.

    `first` is that offset, `last` the batch's last one; `row_count` messages are between them.
    """

    topic_id: str
    first: int
    last: int
    row_count: int
    batch_date: date

    @classmethod
    def read(cls, offset: int, metadata: str) -> Intent | None:
        """Read the metadata of a committed offset; None where there is none.

        Raises IntentError where it is something else.
        """
        if not metadata:
            return None
        try:
            found = json.loads(metadata)
            if found["v"] != _INTENT_VERSION:
                raise IntentError(f"an intent of version {found['v']!r}")
            intent = cls(
                topic_id=str(found["t"]),
                first=offset,
                last=int(found["l"]),
                row_count=int(found["n"]),
                batch_date=date.fromisoformat(found["d"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, IntentError):
                raise
            raise IntentError(f"not an intent: {metadata[:100]!r}") from error
        if not (0 <= intent.first <= intent.last and intent.row_count > 0):
            raise IntentError(f"an impossible intent: {metadata[:100]!r}")
        return intent

    def metadata(self) -> str:
        """Give the intent as commit metadata."""
        return json.dumps(
            {
                "v": _INTENT_VERSION,
                "t": self.topic_id,
                "l": self.last,
                "n": self.row_count,
                "d": self.batch_date.isoformat(),
            },
            separators=(",", ":"),
        )
