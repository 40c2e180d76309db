"""The SQL that opens a cell of the heat map into its rows, for people to copy."""

from __future__ import annotations

import re

from dashboard.queries import DriftDetail
from dashboard.view import EVERYONE, View

_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")


def literal(text: str) -> str:
    """Write `text` as a string of ClickHouse's SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def segment_conditions(segment_key: str, segment_value: str) -> list[str]:
    r"""Give the conditions on fct_predictions that a segment means.

    Keys and values are joined by `|`, which is written `\|` inside a value; `__missing__` stands
    for rows without the key (macro segment_pairs of the dbt project).
    """
    if segment_key == EVERYONE:
        return []
    conditions = []
    values = [value.replace("\\|", "|") for value in _UNESCAPED_BAR.split(segment_value)]
    for key, value in zip(segment_key.split("|"), values, strict=False):
        if value == "__missing__":
            conditions.append(f"not mapContains(segments, {literal(key)})")
        elif value != "__small__":
            conditions.append(f"segments[{literal(key)}] = {literal(value)}")
    return conditions


def rows_statement(view: View, detail: DriftDetail) -> str:
    """Give the statement that lists the predictions counted in a cell.

    The pooled segment `__small__` cannot be told by a row: the statement then gives all segments.
    """
    value = _feature_expression(detail)
    columns = ["predicted_at", "prediction_id", "entity_id", "score", "label"]
    if value not in columns:
        columns.insert(3, value)
    conditions = [
        f"model_name = {literal(view.model_name)}",
        f"model_version = {literal(view.model_version)}",
        f"predicted_hour >= '{detail.window_start:%Y-%m-%d %H:%M:%S}'",
        f"predicted_hour < '{detail.window_end:%Y-%m-%d %H:%M:%S}'",
        *segment_conditions(view.segment_key, view.segment_value),
    ]
    return (
        "select\n    " + ",\n    ".join(columns) + "\n"
        "from fct_predictions\n"
        "where\n    " + "\n    and ".join(conditions) + "\norder by predicted_at\nlimit 100"
    )


def _feature_expression(detail: DriftDetail) -> str:
    if detail.feature_name == "__score__":
        return "score"
    if detail.feature_name == "__prediction__":
        return "predicted_label"
    maps = {"categorical": "string_features", "boolean": "boolean_features"}
    values, key = maps.get(detail.feature_type, "number_features"), literal(detail.feature_name)
    # A map gives 0 or an empty text for a key it lacks, which would look like a value.
    return f"if(mapContains({values}, {key}), {values}[{key}], null) as feature_value"
