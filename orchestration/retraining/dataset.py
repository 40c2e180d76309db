"""The labelled production rows of a run, as they were known at the moment that counts.

Training rows were predicted before the cut-off, and their label was observed by then: nothing that
became known later trains. Evaluation rows were predicted from the cut-off on, long enough ago for
their labels to be complete, so neither challenger nor champion has seen them; where the champion's
own baseline reaches beyond the cut-off, its time range is left out. A label that was revised later
counts as it was known then.

Observation time counts, not landing time: labels that were imported late are the same rows as if
they had come in order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from numpy.typing import NDArray

from ingest.landing import query_rows
from ingest.raw_tables import quoted
from orchestration.retraining import RetrainingError

Floats = NDArray[np.float64]


class DatasetError(RetrainingError):
    """The rows of a run cannot be assembled. The message says why and what to do."""


@dataclass(frozen=True)
class Champion:
    """The version in use, by models.csv and its active baseline.

    `feature_types` gives numeric, boolean or categorical by feature. [`seen_from`, `seen_until`] is
    the time range of its baselines, None where they have no times.
    """

    model_name: str
    version: str
    positive_label: str
    threshold: float
    label_maturity: timedelta
    served_versions: tuple[str, ...]
    feature_types: Mapping[str, str]
    segment_keys: tuple[str, ...]
    seen_from: datetime | None
    seen_until: datetime | None


@dataclass(frozen=True)
class Periods:
    """When rows were predicted, half-open, and `as_of`: what was observed later is not known."""

    training_from: datetime
    cut_off: datetime
    evaluation_until: datetime
    as_of: datetime

    @classmethod
    def ending(
        cls, now: datetime, *, label_maturity: timedelta, training_days: int, evaluation_days: int
    ) -> Periods:
        """Give the latest whole periods at `now`, in milliseconds as ClickHouse keeps times.

        Evaluation ends where labels have matured; training ends where evaluation begins.
        """
        as_of = now.astimezone(UTC).replace(microsecond=now.microsecond // 1000 * 1000)
        evaluation_until = as_of - label_maturity
        cut_off = evaluation_until - timedelta(days=evaluation_days)
        return cls(cut_off - timedelta(days=training_days), cut_off, evaluation_until, as_of)


@dataclass(frozen=True)
class Rows:
    """Labelled rows in order of prediction time; as in protocol.TrainingSet."""

    prediction_ids: pd.Series[str]
    predicted_at: pd.Series[pd.Timestamp]
    labels: pd.Series[str]
    champion_scores: Floats
    features: pd.DataFrame
    segments: pd.DataFrame

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The rows to train on, and the rows to compare on."""

    training: Rows
    evaluation: Rows


def read_champion(client: Client, database: str, model_name: str) -> Champion:
    """Read what the marts say of the version in use; raises DatasetError where it is not enough."""
    bound = {"model": model_name}
    models = query_rows(
        client,
        "select task, positive_label, ifNull(threshold, 0.5), active_version, "  # noqa: S608
        "ifNull(label_maturity_hours, 0), model_versions "
        f"from {quoted(database)}.dim_models where model_name = {{model:String}}",
        bound,
        f"look-up of model {model_name}",
    )
    if not models:
        raise DatasetError(f"there is no model {model_name!r}: add it to models.csv")
    task, positive_label, threshold, version, maturity_hours, served_versions = models[0]
    if task != "binary":
        raise DatasetError(f"{model_name} is {task or 'of no task'}: only binary can be retrained")
    if not version:
        raise DatasetError(f"models.csv has no active_version of {model_name}: name the champion")
    bound["version"] = version
    baselines = query_rows(
        client,
        "select roles, is_active, first_predicted_at, last_predicted_at "  # noqa: S608
        f"from {quoted(database)}.dim_baselines "
        "where model_name = {model:String} and model_version = {version:String} "
        "order by is_active desc",
        bound,
        f"look-up of the baselines of {model_name} {version}",
    )
    features = query_rows(
        client,
        "select feature_name, feature_type "  # noqa: S608
        f"from {quoted(database)}.dim_features "
        "where model_name = {model:String} and model_version = {version:String} "
        "and is_active = 1 and is_model_output = 0 order by feature_name",
        bound,
        f"look-up of the features of {model_name} {version}",
    )
    if not baselines or not features:
        raise DatasetError(
            f"{model_name} {version} has no baseline, which says what its features are: "
            "driftline baseline register, then driftline dbt build"
        )
    firsts = [_utc(row[2]) for row in baselines if row[2] is not None]
    lasts = [_utc(row[3]) for row in baselines if row[3] is not None]
    return Champion(
        model_name=model_name,
        version=version,
        positive_label=positive_label,
        threshold=float(threshold),
        label_maturity=timedelta(hours=int(maturity_hours)),
        served_versions=tuple(served_versions),
        feature_types={str(name): str(feature_type) for name, feature_type in features},
        segment_keys=_segment_keys(str(baselines[0][0])),
        seen_from=min(firsts, default=None),
        seen_until=max(lasts, default=None),
    )


def read_dataset(client: Client, database: str, champion: Champion, periods: Periods) -> Dataset:
    """Read both sets of rows in one query; rows without a score, and without a label, are left out.

    Raises the client's error where ClickHouse refuses.
    """
    features = list(champion.feature_types.items())
    table = client.query_arrow(
        _statement(database, features, champion.segment_keys),
        parameters=_bound(champion, periods),
        use_strings=True,
    )
    is_training = np.asarray(table.column("is_training").to_numpy(), dtype=np.bool_)
    return Dataset(
        _rows(table.filter(pa.array(is_training)), features, champion.segment_keys),
        _rows(table.filter(pa.array(~is_training)), features, champion.segment_keys),
    )


def _segment_keys(roles: str) -> tuple[str, ...]:
    return tuple(
        sorted(column for column, names in json.loads(roles or "{}").items() if "segment" in names)
    )


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _bound(champion: Champion, periods: Periods) -> dict[str, Any]:
    seen = champion.seen_from is not None and champion.seen_until is not None
    bound: dict[str, Any] = {
        "model": champion.model_name,
        "version": champion.version,
        "training_from": _milliseconds(periods.training_from),
        "cut_off": _milliseconds(periods.cut_off),
        "evaluation_until": _milliseconds(periods.evaluation_until),
        "as_of": _milliseconds(periods.as_of),
        # No range seen: one that no time lies in.
        "seen_from": _milliseconds(champion.seen_from) if seen and champion.seen_from else 1,
        "seen_until": _milliseconds(champion.seen_until) if seen and champion.seen_until else 0,
    }
    for number, name in enumerate(champion.feature_types):
        bound[f"feature_{number}"] = name
    for number, key in enumerate(champion.segment_keys):
        bound[f"segment_{number}"] = key
    return bound


def _statement(
    database: str, features: Sequence[tuple[str, str]], segment_keys: Sequence[str]
) -> str:
    """Give the query: columns are numbered, as names of features are data, not identifiers."""
    columns = [
        f"{_feature(f'{{feature_{number}:String}}', feature_type)} as feature_{number}"
        for number, (_, feature_type) in enumerate(features)
    ]
    columns += [
        f"segments[{{segment_{number}:String}}] as segment_{number}"
        for number in range(len(segment_keys))
    ]
    names = ("training_from", "cut_off", "evaluation_until", "as_of", "seen_from", "seen_until")
    return _ROWS.format(
        database=quoted(database),
        columns=",\n    ".join(columns),
        **{name: _moment(name) for name in names},
    )


def _feature(name: str, feature_type: str) -> str:
    number = f"mapContains(number_features, {name}), number_features[{name}]"
    flag = f"mapContains(boolean_features, {name}), boolean_features[{name}]"
    if feature_type == "numeric":
        return f"if({number}, null)"
    if feature_type == "boolean":
        return f"if({flag}, null)"
    return (
        f"multiIf(mapContains(string_features, {name}), string_features[{name}], "
        f"mapContains(number_features, {name}), toString(number_features[{name}]), "
        f"mapContains(boolean_features, {name}), "
        f"if(boolean_features[{name}] = 1, 'true', 'false'), null)"
    )


def _moment(name: str) -> str:
    return f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')"


# `known_at` is the moment by which a row's label must be known: the cut-off for training, the
# moment of the run for evaluation.
_ROWS = """
with labeled as (

    select
        prediction_id,
        predicted_at,
        score,
        label,
        label_observed_at,
        revision_count,
        number_features,
        string_features,
        boolean_features,
        segments,
        predicted_at < {cut_off} as is_training,
        if(predicted_at < {cut_off}, {cut_off}, {as_of}) as known_at
    from {database}.fct_predictions
    where
        model_name = {{model:String}}
        and model_version = {{version:String}}
        and predicted_at >= {training_from}
        and predicted_at < {evaluation_until}
        and not (predicted_at >= {cut_off} and predicted_at between {seen_from} and {seen_until})
        and score is not null
        and label is not null

),

revised_later as (

    select prediction_id, known_at
    from labeled
    where revision_count > 0 and label_observed_at > known_at

),

earlier_labels as (

    select
        label_events.prediction_id as prediction_id,
        toNullable(argMax(
            label_events.label,
            (label_events.observed_at, label_events.source, label_events.value_hash)
        )) as earlier_label
    from {database}.int_label_events as label_events
    inner join revised_later on label_events.prediction_id = revised_later.prediction_id
    where label_events.observed_at <= revised_later.known_at
    group by label_events.prediction_id

),

known as (

    select
        labeled.*,
        if(label_observed_at <= known_at, label, earlier_labels.earlier_label) as known_label
    from labeled
    left join earlier_labels on labeled.prediction_id = earlier_labels.prediction_id

)

select
    prediction_id,
    toUnixTimestamp64Milli(predicted_at) as predicted_at_ms,
    toUInt8(is_training) as is_training,
    assumeNotNull(score) as champion_score,
    assumeNotNull(known_label) as label,
    {columns}
from known
where known_label is not null
order by predicted_at_ms, prediction_id
"""


def _rows(
    table: pa.Table, features: Sequence[tuple[str, str]], segment_keys: Sequence[str]
) -> Rows:
    return Rows(
        prediction_ids=table.column("prediction_id").to_pandas(),
        predicted_at=pd.to_datetime(
            table.column("predicted_at_ms").to_pandas(), unit="ms", utc=True
        ).dt.as_unit("ms"),
        labels=table.column("label").to_pandas(),
        champion_scores=table.column("champion_score").to_numpy().astype(np.float64),
        features=pd.DataFrame(
            {
                name: _typed(table.column(f"feature_{number}"), feature_type)
                for number, (name, feature_type) in enumerate(features)
            }
        ),
        segments=pd.DataFrame(
            {
                key: table.column(f"segment_{number}").to_pandas()
                for number, key in enumerate(segment_keys)
            },
            index=range(table.num_rows),
        ),
    )


def _typed(column: pa.ChunkedArray, feature_type: str) -> pd.Series[Any]:
    if feature_type == "numeric":
        return pd.Series(column.to_numpy().astype(np.float64))
    values: pd.Series[Any] = column.to_pandas()
    return values.astype("boolean" if feature_type == "boolean" else "category")
