"""Bars and tables of studies and benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.findings import Bar, Study, Table, missed, write_between


@pytest.mark.parametrize(
    ("seen", "is_met"),
    [(0.9, False), (1.0, True), (2.0, True), (2.1, False), (float("nan"), False)],
)
def test_bar_is_met_within_its_bounds(seen: float, is_met: bool) -> None:
    assert Bar("between 1 and 2", seen, least=1, most=2).is_met is is_met


def test_missed_bars_are_named() -> None:
    met, not_met = Bar("small", 1, most=2), Bar("large", 1, least=2)
    studies = [Study("one", "", [], [met]), Study("two", "", [], [not_met])]
    assert missed(studies) == [not_met]
    assert "| large | 1 | **missed** |" in studies[1].markdown()


def test_document_keeps_what_is_outside_its_markers(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    write_between(document, "a", Table(("x", "y"), [("1", "2")]).markdown())
    expected = "before\n<!-- a -->\n| x | y |\n| --- | ---: |\n| 1 | 2 |\n<!-- /a -->\nafter\n"
    assert document.read_text() == expected
    with pytest.raises(ValueError, match="lacks <!-- b -->"):
        write_between(document, "b", "")
