"""Every statement of docs/sql-cookbook.md answers its question on the demo, as the analyst."""

from __future__ import annotations

import pytest

from tests.end_to_end.cookbook import COOKBOOK, Recipe, recipes
from tests.end_to_end.finished_demo import Demo

RECIPES = recipes(COOKBOOK.read_text())


def test_every_question_of_the_cookbook_has_a_statement_and_an_answer() -> None:
    assert len(RECIPES) >= 15
    assert len(RECIPES) == COOKBOOK.read_text().count("\n## ")
    assert [recipe.question for recipe in RECIPES if not recipe.answer] == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.question for recipe in RECIPES])
def test_statement_gives_the_columns_and_rows_that_the_cookbook_shows(
    demo: Demo, recipe: Recipe
) -> None:
    frame = demo.frame(recipe.statement)
    assert list(frame.columns) == recipe.columns
    rows_shown = len(recipe.answer.splitlines()) - 2  # without head and foot
    assert len(frame) == rows_shown
    # A column that is empty in every row answers nothing.
    empty = [name for name in frame.columns if frame[name].isna().all()]
    shown_empty = {"lower", "upper"} if "bins" in recipe.statement else set()
    assert set(empty) <= shown_empty
