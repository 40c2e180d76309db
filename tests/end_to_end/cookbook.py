"""The statements of docs/sql-cookbook.md, and its answers.

`python -m tests.end_to_end.cookbook` runs each as the analyst of the environment (a finished demo
with `--shift-weeks 0`) and writes the answers into the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

COOKBOOK = Path(__file__).parents[2] / "docs/sql-cookbook.md"
# A heading, maybe words, a statement, and its answer where it has been written.
_RECIPE = re.compile(
    r"^## (?P<question>[^\n]+)\n(?P<words>(?:(?!## |```)[^\n]*\n)*)"
    r"```sql\n(?P<statement>.*?)\n```\n(?:\n```text\n(?P<answer>.*?)\n```\n)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Recipe:
    """A question, the statement that answers it, and the answer as it is printed."""

    question: str
    statement: str
    answer: str

    @property
    def columns(self) -> list[str]:
        """The names in the head of the printed answer."""
        return re.findall(r"[^\s─┌┬┐]+", self.answer.splitlines()[0])


def recipes(text: str) -> list[Recipe]:
    """Give the recipes of the file, in order."""
    return [
        Recipe(found["question"], found["statement"], found["answer"] or "")
        for found in _RECIPE.finditer(text)
    ]


def answered(text: str, answer: Callable[[str], str]) -> str:
    """Give the file with new answers."""

    def rewritten(found: re.Match[str]) -> str:
        return (
            f"## {found['question']}\n{found['words']}```sql\n{found['statement']}\n```\n\n"
            f"```text\n{answer(found['statement']).rstrip()}\n```\n"
        )

    return _RECIPE.sub(rewritten, text)


def main() -> None:
    """Write the answers into the file."""
    from driftline.settings import load_sandbox_environment
    from driftline.warehouse_commands import analyst_client

    load_sandbox_environment()
    with closing(analyst_client()) as client:

        def ask(statement: str) -> str:
            return client.raw_query(statement, fmt="PrettyCompactMonoBlock").decode()

        COOKBOOK.write_text(answered(COOKBOOK.read_text(), ask))


if __name__ == "__main__":
    main()
