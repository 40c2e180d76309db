"""What a reader has chosen to see, in the address of the page: a link shows the same to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode

EVERYONE = "all"


class Granularity(StrEnum):
    """Length of a window; the marts have one table for each."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    @property
    def mart_suffix(self) -> str:
        """The end of a mart's name, such as `weekly`."""
        return {"day": "daily", "week": "weekly", "month": "monthly"}[self.value]

    @property
    def windows_shown(self) -> int:
        """Windows that are shown where no dates are chosen."""
        return {"day": 35, "week": 26, "month": 12}[self.value]

    @property
    def windows_at_most(self) -> int:
        """Windows that a chosen range may have; what is longer loses its oldest."""
        return {"day": 120, "week": 120, "month": 60}[self.value]

    def start_of(self, day: date) -> date:
        """Give the first day of the window that `day` is in; weeks begin on Monday."""
        if self is Granularity.WEEK:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is Granularity.MONTH else day

    def earlier(self, start: date, windows: int) -> date:
        """Give the start of the window that is `windows` before the one starting at `start`."""
        if self is Granularity.MONTH:
            months = start.year * 12 + start.month - 1 - windows
            return date(max(months // 12, 1970), months % 12 + 1, 1)
        return start - timedelta(days=windows * (7 if self is Granularity.WEEK else 1))


@dataclass(frozen=True)
class Choices:
    """What the address says, as it stands there; an empty text where nothing was chosen."""

    model: str = ""
    version: str = ""
    segment: str = ""
    value: str = ""
    by: str = ""
    start: str = ""
    end: str = ""
    feature: str = ""
    window: str = ""

    @classmethod
    def from_search(cls, search: str | None) -> Choices:
        """Read the query of an address; names that are none of ours are ignored."""
        names = {field.name for field in fields(cls)}
        pairs = parse_qsl((search or "").lstrip("?"))
        return cls(**{name: value for name, value in pairs if name in names})

    def to_search(self) -> str:
        """Give the query of an address that says the same; empty where nothing was chosen."""
        chosen = {name: value for name, value in asdict(self).items() if value}
        return f"?{urlencode(chosen)}" if chosen else ""


@dataclass(frozen=True)
class ModelSpan:
    """A model version that has rows, and the days of its first and last prediction (UTC)."""

    model_name: str
    model_version: str
    is_active: bool
    first_day: date | None
    last_day: date | None


@dataclass(frozen=True)
class View:
    """What is shown: `start` is the first day of the first window, `end` the last day, UTC."""

    model_name: str
    model_version: str
    segment_key: str
    segment_value: str
    granularity: Granularity
    start: date
    end: date

    def mart(self, subject: str) -> str:
        """Give the name of the mart of `subject` (such as `feature_drift`) at this granularity."""
        return f"fct_{subject}_{self.granularity.mart_suffix}"

    def window_starts(self) -> list[date]:
        """Give the first day of every window shown, in order."""
        starts = []
        start = self.granularity.start_of(self.end)
        while start >= self.start:
            starts.append(start)
            start = self.granularity.earlier(start, 1)
        return starts[::-1]

    def parameters(self) -> dict[str, object]:
        """Give the values that the queries of a view bind."""
        return {
            "model_name": self.model_name,
            "model_version": self.model_version,
            "segment_key": self.segment_key,
            "segment_value": self.segment_value,
            "start": f"{self.start} 00:00:00",
            "end": f"{self.end + timedelta(days=1)} 00:00:00",
        }

    def to_dict(self) -> dict[str, str]:
        """Give the view as the browser keeps it."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, kept: dict[str, str]) -> View:
        """Read what `to_dict` gave."""
        return cls(
            **{
                **kept,
                "granularity": Granularity(kept["granularity"]),
                "start": date.fromisoformat(kept["start"]),
                "end": date.fromisoformat(kept["end"]),
            }  # type: ignore[arg-type]
        )


def chosen_version(choices: Choices, spans: Sequence[ModelSpan]) -> ModelSpan | None:
    """Give the version that is chosen, else the active one; None where there is no model.

    What an old link names and the warehouse no longer has gives way to what it has.
    """
    named = [span for span in spans if span.model_name == choices.model]
    # A model that is only configured yet shows nothing: another one is a better welcome.
    named = named or [span for span in spans if span.last_day is not None] or list(spans)
    of_model = [span for span in named if span.model_name == named[0].model_name]
    chosen = [span for span in of_model if span.model_version == choices.version]
    active = [span for span in of_model if span.is_active]
    candidates = chosen or active or of_model
    return candidates[-1] if candidates else None


def resolved(
    choices: Choices,
    span: ModelSpan,
    segments: Sequence[tuple[str, str]],
    now: datetime,
) -> View:
    """Turn choices into what can be shown of the version `span`.

    `segments` are its pairs (segment_key, segment_value), the largest first. Without dates the
    newest windows up to the last prediction are shown; a range too long loses its oldest windows.
    """
    granularity = _granularity(choices.by)
    segment_key = choices.segment if any(key == choices.segment for key, _ in segments) else ""
    segment_key = segment_key or EVERYONE
    values = [value for key, value in segments if key == segment_key] or [EVERYONE]
    end = _day(choices.end) or span.last_day or now.astimezone(UTC).date()
    newest = granularity.start_of(end)
    start = granularity.earlier(newest, granularity.windows_shown - 1)
    if span.first_day is not None:
        start = max(start, granularity.start_of(min(span.first_day, end)))
    chosen_start = _day(choices.start)
    if chosen_start is not None:
        start = granularity.start_of(min(chosen_start, end))
    return View(
        model_name=span.model_name,
        model_version=span.model_version,
        segment_key=segment_key,
        segment_value=choices.value if choices.value in values else values[0],
        granularity=granularity,
        start=max(start, granularity.earlier(newest, granularity.windows_at_most - 1)),
        end=end,
    )


def _granularity(text: str) -> Granularity:
    return Granularity(text) if text in set(Granularity) else Granularity.WEEK


def _day(text: str) -> date | None:
    """Give the day of an ISO date or time; None for what is neither, or lies outside the marts."""
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        return None
    # The range of ClickHouse's DateTime, with room for the widest range before it.
    return day if 1980 <= day.year <= 2099 else None
