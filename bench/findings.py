"""What a study found: a table, and bars that it met or missed; written as Markdown by the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Bar:
    """A bound that was set beforehand, and what was seen. NaN meets nothing."""

    promise: str
    seen: float
    least: float | None = None
    most: float | None = None
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether what was seen lies within the bounds, both included."""
        is_enough = self.least is None or self.seen >= self.least
        is_little = self.most is None or self.seen <= self.most
        return self.seen == self.seen and is_enough and is_little


@dataclass(frozen=True)
class Table:
    """Cells as texts, one header a column. The first column is text, the others numbers."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Give the table as Markdown."""
        lines = [self.headers, ["---", *["---:"] * (len(self.headers) - 1)], *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Study:
    """A titled section: what was done, what came of it, and what had been promised."""

    title: str
    method: str
    tables: Sequence[Table]
    bars: Sequence[Bar] = ()
    remarks: Sequence[str] = field(default_factory=tuple)

    def markdown(self) -> str:
        """Give the section as Markdown."""
        parts = [f"## {self.title}", self.method, *(table.markdown() for table in self.tables)]
        if self.bars:
            parts.append(bars_table(self.bars).markdown())
        return "\n\n".join([*parts, *self.remarks])


def bars_table(bars: Sequence[Bar]) -> Table:
    """Give bars as a table of promise, what was seen, and whether it was met."""
    return Table(
        ("promised", "seen", ""),
        [
            (bar.promise, f"{bar.seen:.4g}{bar.unit}", "met" if bar.is_met else "**missed**")
            for bar in bars
        ],
    )


def missed(studies: Sequence[Study]) -> list[Bar]:
    """Give the bars that were missed."""
    return [bar for study in studies for bar in study.bars if not bar.is_met]


def write_between(file: Path, marker: str, text: str) -> None:
    """Replace what stands between `<!-- marker -->` and `<!-- /marker -->` in a document.

    Raises ValueError where the document lacks the markers.
    """
    first, last = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    document = file.read_text()
    head, found_first, rest = document.partition(first)
    _, found_last, tail = rest.partition(last)
    if not (found_first and found_last):
        raise ValueError(f"{file} lacks {first} or {last}")
    file.write_text(f"{head}{first}\n{text}\n{last}{tail}")
