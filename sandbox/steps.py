"""The steps of a long command: a progress bar for each on a terminal, a line for each elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Steps:
    """Shows steps one after another and keeps how long each took, in seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
        """Show `title` while the block runs; the block reports (done, of) as it goes."""
        started = time.monotonic()
        with Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        ) as progress:
            task = progress.add_task(title, total=total)

            def report(done: int, of: int) -> None:
                progress.update(task, completed=done, total=of)

            yield report
            finished = progress.tasks[task].total or 1
            progress.update(task, completed=finished, total=finished)
        self.seconds[title] = time.monotonic() - started
        if not self.console.is_terminal:
            self.note(f"{title}: {self.seconds[title]:.1f} s")

    def note(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)
