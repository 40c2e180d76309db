"""How a long command shows its steps."""

from __future__ import annotations

import io

from rich.console import Console

from sandbox.steps import Steps


def test_step_prints_one_line_where_there_is_no_terminal() -> None:
    output = io.StringIO()
    steps = Steps(Console(file=output))
    with steps.step("train", 3) as report:
        report(1, 3)
    assert output.getvalue().startswith("train: ")
    assert output.getvalue().count("\n") == 1
    assert steps.seconds["train"] >= 0


def test_step_shows_a_bar_on_a_terminal() -> None:
    output = io.StringIO()
    steps = Steps(Console(file=output, force_terminal=True, width=100))
    with steps.step("train", 3) as report:
        report(2, 3)
    assert "train" in output.getvalue()
    assert "3/3" in output.getvalue()
