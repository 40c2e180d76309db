"""Numbers, times and codes of the marts in the words of the page."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from dashboard.view import Granularity

NOTHING = "\N{EN DASH}"

# What people call the reasons and obstacles of docs/metrics.md; others are shown as they are.
_REASONS = {
    "no_baseline": "no baseline is registered for this version",
    "not_in_baseline": "the baseline lacks this feature",
    "below_min_granularity": "the feature needs longer windows (min_granularity)",
    "below_min_rows": "too few rows in the window",
    "baseline_below_min_rows": "too few rows in the baseline",
    "window_open": "the window is not closed yet",
    "not_significant": "not more than sampling noise",
    "within_baseline_variation": "within the baseline's own variation",
    "labels_not_complete": "labels are not complete yet",
    "window_not_complete": "the window is not complete",
    "no_value": "the metric has no value",
    "no_windows": "there is no window yet",
    "no_predictions": "no predictions",
    "no_labels": "no labels yet",
    "no_scores": "the labelled rows have no score",
    "single_class": "only one class among the labels",
    "too_few_labels": "too few labels for an interval",
    "recovered": "recovered",
    "version_not_active": "another version is active",
}

_VERDICTS = {
    "drift": "drift",
    "warning": "warning",
    "ok": "ok",
    "insufficient_data": "not enough data",
    "not_evaluated": "not evaluated",
}


def count(number: int | float | None) -> str:
    """Write a whole number: 255,987."""
    return NOTHING if number is None else f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
    """Write a number of things: 1 row, 255,987 rows."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def metric(value: float | None) -> str:
    """Write a score or distance: 0.731."""
    return NOTHING if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Write a difference with its sign: +0.040, or a true minus sign."""
    return NOTHING if value is None else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def share(value: float | None) -> str:
    """Write a share as percent: 97.4%."""
    return NOTHING if value is None else f"{100 * value:.1f}%"


def q_value(value: float | None) -> str:
    """Write a q-value; below a millionth its size says nothing more."""
    if value is None:
        return NOTHING
    return "<1e-6" if value < 1e-6 else f"{value:.2g}"


def figure(value: float | None) -> str:
    """Write a value of any metric: four significant digits, no exponent in the usual range."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def rate(per_second: float | None) -> str:
    """Write a throughput in the unit that keeps it readable: 36 /h."""
    if per_second is None:
        return NOTHING
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if per_second * seconds >= 1 or unit == "h":
            return f"{per_second * seconds:,.3g} /{unit}"
    return NOTHING


def latency_unit(milliseconds: float | None) -> tuple[str, float]:
    """Give a unit, and how many of it are in a millisecond, for values up to `milliseconds`."""
    if milliseconds is not None and milliseconds >= 1000:
        return "s", 0.001
    return ("µs", 1000.0) if milliseconds is not None and milliseconds < 1 else ("ms", 1.0)


def latency(milliseconds: float | None) -> str:
    """Write a latency: 7.8 µs, 12 ms, 1.2 s."""
    if milliseconds is None:
        return NOTHING
    unit, factor = latency_unit(milliseconds)
    return f"{milliseconds * factor:.3g} {unit}"


def moment(time: datetime | None) -> str:
    """Write a time in UTC, to the minute."""
    return NOTHING if time is None else f"{time.astimezone(UTC):%-d %b %Y %H:%M}"


def day(time: date | None) -> str:
    """Write a day: 9 Nov 2026."""
    return NOTHING if time is None else f"{time:%-d %b %Y}"


def ago(time: datetime | None, now: datetime) -> str:
    """Write how long ago a time was, roughly."""
    if time is None:
        return "never"
    seconds = (now - time).total_seconds()
    if seconds < 0:
        return "in the future"
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit} ago"
    return f"{seconds / 86_400:,.0f} days ago"


def window(start: date, granularity: Granularity) -> str:
    """Name a window: 9 Nov 2026, week of 9 Nov 2026, November 2026."""
    if granularity is Granularity.MONTH:
        return f"{start:%B %Y}"
    return f"week of {day(start)}" if granularity is Granularity.WEEK else day(start)


def last_day_of(end: datetime) -> date:
    """Give the last day of a half-open window that ends at `end`."""
    return (end - timedelta(microseconds=1)).date()


def feature(name: str) -> str:
    """Name a feature; the model's output is no feature of anyone's data."""
    return f"{name.strip('_')} (output)" if name.startswith("__") else name


def segment(key: str, value: str) -> str:
    """Name a segment: everyone, origin = EWR."""
    return "everyone" if key == "all" else f"{key} = {value}"


def reason(code: str) -> str:
    """Explain reasons joined by commas."""
    return "; ".join(_REASONS.get(part, part) for part in code.split(",") if part)


def verdict(code: str) -> str:
    """Name a verdict."""
    return _VERDICTS.get(code, code)
