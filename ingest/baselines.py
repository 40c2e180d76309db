"""Registering a baseline: the training (or reference) set that a model version is compared with.

A baseline is immutable. Its id hashes data, roles, model and version, so registering the same again
changes nothing; its rows land first and its own row last, so one that was interrupted does not
exist yet, and registering it again completes it.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client

from ingest.json_columns import ColumnError, json_objects, json_values, plain_texts, time_texts
from ingest.landing import insert_block, land_exactly_once, missing_numbers, query_rows
from ingest.raw_tables import BASELINE_ROWS, BASELINES, create_raw_tables, raw_table
from ingest.typed_rows import Rows, TableRows, in_batches

_BATCH_ROWS = 20_000
_SHOWN_PROBLEMS = 10
_RESERVED_FEATURES = ("__score__", "__prediction__", "__label__")


class BaselineError(ValueError):
    """The data or the roles of a baseline are wrong. The message says where and what to do."""


@dataclass(frozen=True)
class Roles:
    """What the columns of a training set are; a column without a role is a feature.

    `score` (probability of the positive class, out of fold), `value` (a regression's prediction),
    `predicted_label` and `class_scores` (class → column) are what the model said; `label` the
    truth; `time` when the row was predicted. A segment column is a feature too only where
    `features` names it. `excluded` columns are left out.
    """

    score: str | None = None
    value: str | None = None
    predicted_label: str | None = None
    class_scores: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    time: str | None = None
    segments: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def by_column(self) -> dict[str, list[str]]:
        """Give the declared roles of each column that has one."""
        roles: dict[str, list[str]] = {}
        for role, column in (
            ("score", self.score),
            ("value", self.value),
            ("predicted_label", self.predicted_label),
            ("label", self.label),
            ("time", self.time),
            *((f"class_score:{name}", column) for name, column in self.class_scores.items()),
            *(("segment", column) for column in self.segments),
            *(("feature", column) for column in self.features),
            *(("excluded", column) for column in self.excluded),
        ):
            if column is not None and role not in roles.setdefault(column, []):
                roles[column].append(role)
        return roles

    def resolved(self, columns: Sequence[str]) -> dict[str, list[str]]:
        """Give the roles of every column, sorted; raises BaselineError where they do not fit."""
        repeated = sorted({column for column in columns if columns.count(column) > 1})
        if repeated:
            raise BaselineError(
                f"the data has more than one column {repeated[0]!r}: rename or drop the others"
            )
        declared = self.by_column()
        for column, roles in declared.items():
            if column not in columns:
                near = difflib.get_close_matches(column, columns, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise BaselineError(
                    f"role {roles[0]!r} names column {column!r}, which the data does not have"
                    f"{hint}; it has {', '.join(sorted(columns))}"
                )
            if "excluded" in roles and len(roles) > 1:
                raise BaselineError(
                    f"column {column!r} is excluded and also {roles[0]!r}: leave one of them out"
                )
        return {column: sorted(declared.get(column, ["feature"])) for column in sorted(columns)}


@dataclass(frozen=True)
class Baseline:
    """A registered baseline. `is_new` is false where the same was registered before."""

    baseline_id: str
    model_name: str
    model_version: str
    row_count: int
    feature_types: Mapping[str, str]
    is_new: bool


def register_baseline(
    client: Client,
    data: pa.Table | Rows,
    roles: Roles,
    *,
    model_name: str,
    model_version: str,
    raw_database: str,
    description: str = "",
    feature_importance: Mapping[str, float] | None = None,
    is_probability: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> Baseline:
    """Register `data` as the baseline of a model version; the same again changes nothing.

    Rows of a file (ingest.typed_rows.open_rows) are read twice, in batches.

    `client` must have no session (ingest.warehouse.connect). Where `is_probability`, scores must
    lie in [0, 1]. `feature_importance` is stored beside the baseline; like `description` it is not
    part of its identity. `on_progress` gets (rows landed, all rows). Nulls and NaN become null.

    Raises BaselineError or ColumnError where data or roles are wrong, before anything is written,
    and LandingError where ClickHouse refuses.
    """
    rows = TableRows(data) if isinstance(data, pa.Table) else data
    schema = rows.schema
    resolved = roles.resolved(schema.names)
    features = [column for column, names in resolved.items() if "feature" in names]
    _check_columns(schema, roles, features)
    importance = _checked_importance(feature_importance or {}, features)
    feature_types = {column: feature_type(schema.field(column).type) for column in features}
    head = [model_name, model_version, resolved, feature_types]
    baseline_id, row_count = _identity(
        rows, roles, features, json.dumps(head, sort_keys=True), is_probability=is_probability
    )
    baseline = Baseline(
        baseline_id, model_name, model_version, row_count, feature_types, is_new=True
    )
    create_raw_tables(client, raw_database)
    if _is_registered(client, raw_database, baseline_id):
        return replace(baseline, is_new=False)
    _land_rows(client, raw_database, baseline, _row_texts(rows, roles, features), on_progress)
    insert_block(
        client,
        raw_table(raw_database, BASELINES),
        pa.record_batch(
            {
                "baseline_id": [baseline_id],
                "model_name": [model_name],
                "model_version": [model_version],
                "description": [description],
                "row_count": pa.array([row_count], pa.uint64()),
                "roles": [json.dumps(resolved, ensure_ascii=False)],
                "feature_types": pa.array(
                    [list(feature_types.items())], pa.map_(pa.string(), pa.string())
                ),
                "feature_importance": pa.array(
                    [list(importance.items())], pa.map_(pa.string(), pa.float64())
                ),
                "registered_at": pa.array([datetime.now(UTC)], pa.timestamp("ms", "UTC")),
            }
        ),
        baseline_id,
        f"registration of baseline {baseline_id}",
    )
    return baseline


def feature_type(kind: pa.DataType) -> str:
    """Give numeric, boolean or categorical for an Arrow type."""
    if pa.types.is_dictionary(kind):
        return feature_type(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_duration(kind)
    ):
        return "numeric"
    return "categorical"


def read_importance(path: Path) -> dict[str, float]:
    """Read a JSON file of importances by feature; raises BaselineError where it is not one."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BaselineError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BaselineError(f'{path} is not a JSON object {{"feature": importance, …}}')
    return found


def _check_columns(schema: pa.Schema, roles: Roles, features: Sequence[str]) -> None:
    if not features:
        raise BaselineError("no column is a feature: name some, or give fewer columns other roles")
    for name in features:
        if name in _RESERVED_FEATURES:
            raise BaselineError(f"column {name!r} has a reserved name: rename it or exclude it")
    for column in (roles.score, roles.value, *roles.class_scores.values()):
        if column is not None and feature_type(schema.field(column).type) != "numeric":
            kind = schema.field(column).type
            raise BaselineError(f"column {column!r} holds predictions but is of type {kind}")


def _problems(
    batch: pa.RecordBatch, first: int, roles: Roles, *, is_probability: bool
) -> Iterator[str]:
    """Say what is wrong with each row that is; rows count from 1, without a header."""
    for column in (roles.score, *roles.class_scores.values()):
        if column is not None and is_probability:
            scores = batch.column(column).cast(pa.float64())
            outside = pc.or_(pc.less(scores, 0.0), pc.greater(scores, 1.0))
            for row in pc.indices_nonzero(pc.fill_null(outside, False)).to_pylist():
                yield f"row {first + row + 1}: {column!r} is {scores[row].as_py()!r}, " + (
                    "not a probability in [0, 1]"
                )
    if roles.time is not None:
        times = batch.column(roles.time)
        unreadable = pc.and_(pc.is_valid(times), pc.is_null(time_texts(times, roles.time)))
        for row in pc.indices_nonzero(unreadable).to_pylist():
            yield f"row {first + row + 1}: {roles.time!r} is {times[row]}, not a time"


def _checked_importance(
    importance: Mapping[str, float], features: Sequence[str]
) -> dict[str, float]:
    for name, value in importance.items():
        if name not in features:
            raise BaselineError(f"the importance names {name!r}, which is not a feature")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise BaselineError(f"the importance of {name!r} is {value!r}, not a finite number")
    return {name: float(value) for name, value in importance.items()}


def _row_texts(rows: Rows, roles: Roles, features: Sequence[str]) -> Iterator[pa.Array]:
    """Give the rows' JSON texts, in batches of the same rows every time."""
    for batch in in_batches(rows, _BATCH_ROWS):
        yield row_values(batch, roles, features)


def row_values(batch: pa.RecordBatch, roles: Roles, features: Sequence[str]) -> pa.Array:
    """Give each row as the JSON text that stands in raw.baseline_rows."""
    rows = batch.num_rows

    def texts(column: str) -> pa.Array:
        return json_values(batch.column(column), column)

    members = [("features", json_objects([(name, texts(name)) for name in features], rows))]
    outputs = [
        (name, texts(column))
        for name, column in (
            ("score", roles.score),
            ("value", roles.value),
            ("label", roles.predicted_label),
        )
        if column is not None
    ]
    if roles.class_scores:
        of_classes = [(name, texts(column)) for name, column in sorted(roles.class_scores.items())]
        outputs.append(("scores", json_objects(of_classes, rows)))
    if outputs:
        members.append(("prediction", json_objects(outputs, rows)))
    if roles.label is not None:
        members.append(("label", texts(roles.label)))
    if roles.segments:
        segments = [
            (name, json_values(plain_texts(batch.column(name), name), name))
            for name in sorted(roles.segments)
        ]
        members.append(("segments", json_objects(segments, rows)))
    if roles.time is not None:
        times = time_texts(batch.column(roles.time), roles.time)
        members.append(("predicted_at", json_values(times, roles.time)))
    return json_objects(members, rows)


def _identity(
    rows: Rows, roles: Roles, features: Sequence[str], head: str, *, is_probability: bool
) -> tuple[str, int]:
    """Check every row; give the baseline's id, which hashes `head` and all rows, and their number.

    Raises BaselineError naming the first rows that are wrong.
    """
    digest = sha256(head.encode())
    row_count = problem_count = 0
    shown: list[str] = []
    for batch in in_batches(rows, _BATCH_ROWS):
        for problem in _problems(batch, row_count, roles, is_probability=is_probability):
            problem_count += 1
            if len(shown) < _SHOWN_PROBLEMS:
                shown.append(problem)
        row_count += batch.num_rows
        if not problem_count:
            digest.update("\n".join(row_values(batch, roles, features).to_pylist()).encode())
            digest.update(b"\n")
    if problem_count:
        more = problem_count - len(shown)
        raise BaselineError(
            f"{problem_count} values in {row_count} rows are wrong; nothing was registered. A "
            "regression's prediction has the role value; for a score of another range say that it "
            "is no probability\n" + "\n".join(shown) + (f"\n… and {more} more" if more else "")
        )
    if not row_count:
        raise BaselineError("the data has no rows: a baseline needs some to compare with")
    return f"bl_{digest.hexdigest()[:32]}", row_count


def _is_registered(client: Client, raw_database: str, baseline_id: str) -> bool:
    found = query_rows(
        client,
        f"select count() from {raw_table(raw_database, BASELINES)} "  # noqa: S608 - quoted
        "where baseline_id = {baseline_id:String}",
        {"baseline_id": baseline_id},
        f"look-up of baseline {baseline_id}",
    )
    return bool(found[0][0])


def _land_rows(
    client: Client,
    raw_database: str,
    baseline: Baseline,
    batches: Iterator[pa.Array],
    on_progress: Callable[[int, int], None],
) -> None:
    table = raw_table(raw_database, BASELINE_ROWS)
    doing = f"rows of baseline {baseline.baseline_id}"
    first = 0
    for values in batches:
        numbers = range(first, first + len(values))

        def missing(numbers: range = numbers) -> Collection[int]:
            key = {"baseline_id": baseline.baseline_id}
            return missing_numbers(client, table, "row_number", key, numbers, doing)

        def insert(
            wanted: Collection[int], token: str, first: int = first, values: pa.Array = values
        ) -> None:
            ordered = sorted(wanted)
            block = pa.record_batch(
                {
                    "baseline_id": pa.repeat(pa.scalar(baseline.baseline_id), len(ordered)),
                    "row_number": pa.array(ordered, pa.uint64()),
                    "value": values.take(pa.array([number - first for number in ordered])),
                }
            )
            insert_block(client, table, block, token, doing)

        token = f"{baseline.baseline_id}/{numbers[0]}-{numbers[-1]}"
        land_exactly_once(numbers, token, missing=missing, insert=insert)
        first += len(values)
        on_progress(first, baseline.row_count)


__all__ = [
    "Baseline",
    "BaselineError",
    "ColumnError",
    "Roles",
    "feature_type",
    "read_importance",
    "register_baseline",
    "row_values",
]
