"""One run of retraining, from the rule to the record.

    started ──▶ promoted   better beyond its interval: its baseline is registered
            ──▶ refused    not better beyond it
            ──▶ failed     the trainer failed, or there is too little data

A run that is cut short stays `started`, and counts for the cool-down; done again under its own id
it takes the same rows, as the record says what moment counted. Nothing but raw tables is written:
serving the new version, and naming it in models.csv, is for people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from numpy.typing import NDArray

from driftline.settings import ClickHouseSettings, home
from ingest.baselines import BaselineError, Roles, register_baseline
from ingest.json_columns import ColumnError
from ingest.raw_tables import create_raw_tables
from orchestration.retraining import RetrainingError
from orchestration.retraining.dataset import (
    Champion,
    Dataset,
    Periods,
    Rows,
    read_champion,
    read_dataset,
)
from orchestration.retraining.evaluation import evaluate
from orchestration.retraining.protocol import (
    Challenger,
    TrainerError,
    TrainingSet,
    load_trainer,
    predicted_scores,
    train_challenger,
)
from orchestration.retraining.runs import (
    FAILED,
    PROMOTED,
    REFUSED,
    STARTED,
    RetrainingRun,
    figures_of,
    read_runs,
    record_run,
)
from orchestration.retraining.triggers import (
    RetrainingRule,
    read_breaches,
    read_rule,
    sustained_breaches,
)

# Names that no feature has: those with two underscores are reserved.
_SCORE, _LABEL, _TIME = "__score__", "__label__", "__predicted_at__"

OnProgress = Callable[[str], object]


def retrain(
    client: Client,
    settings: ClickHouseSettings,
    model_name: str,
    *,
    now: datetime,
    trigger: str,
    run_id: str,
    on_progress: OnProgress = lambda _: None,
    work_folder: Path | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> RetrainingRun:
    """Retrain a model as retraining.csv says, record the run, and give it.

    `now` is the moment whose knowledge counts; `trigger` says what started the run, such as
    command, or why. Whether the model is due is not asked: triggers.read_due does that.
    `on_progress` gets a line at each step. The trainer may keep files in `work_folder`/`run_id`
    (default: retraining in the folder of DRIFTLINE_HOME). `clock` gives when it starts and ends.

    The same `run_id` again gives the recorded run where it has ended, and does it again where it
    was cut short. Raises, before anything is recorded, RetrainingError where another run of the
    model is under way, or where retraining.csv, models.csv or the baseline do not say how;
    LandingError or the client's error where ClickHouse fails.
    """
    create_raw_tables(client, settings.raw_database)
    earlier = read_runs(client, settings.raw_database, model_name=model_name)
    same = _same_run(client, settings.raw_database, run_id, model_name)
    if same is not None and same.is_ended:
        on_progress(f"run {run_id} has ended before: {same.status}")
        return same
    started_at = clock()
    _require_alone(earlier, run_id, started_at)
    rule = read_rule(client, settings, model_name)
    champion = read_champion(client, settings.database, model_name)
    if same is None:
        run = _new_run(rule, champion, run_id, trigger, as_of=now, started_at=started_at)
        breaches = sustained_breaches(rule, read_breaches(client, settings), earlier, now)
        run = replace(run, breach_ids=tuple(sorted(breach.breach_id for breach in breaches)))
        record_run(client, settings.raw_database, run)
    else:
        on_progress(f"run {run_id} was cut short: doing it again as of {same.as_of:%Y-%m-%d %H:%M}")
        run = same
        if champion.version != run.champion_version:
            changed = replace(
                run,
                status=FAILED,
                reason=f"champion_changed: {run.champion_version} was active when the run started, "
                f"{champion.version} is now",
                ended_at=clock(),
            )
            return _recorded(client, settings, changed, on_progress)
    folder = (work_folder or home() / "retraining") / run_id
    ended = _carried_out(
        client,
        settings,
        rule,
        champion,
        run,
        used_versions=_used_versions(champion, earlier, run_id),
        folder=folder,
        on_progress=on_progress,
    )
    return _recorded(client, settings, replace(ended, ended_at=clock()), on_progress)


def _carried_out(
    client: Client,
    settings: ClickHouseSettings,
    rule: RetrainingRule,
    champion: Champion,
    started: RetrainingRun,
    *,
    used_versions: frozenset[str],
    folder: Path,
    on_progress: OnProgress,
) -> RetrainingRun:
    """Give the run with its outcome; what was found before a failure stays in it."""
    run = started
    periods = Periods(run.training_from, run.cut_off, run.evaluation_until, run.as_of)
    on_progress(f"reading rows predicted from {run.training_from:%Y-%m-%d} on")
    dataset = read_dataset(client, settings.database, champion, periods)
    positives = int(_is_positive(dataset.evaluation, champion).sum())
    run = replace(
        run,
        training_row_count=len(dataset.training),
        evaluation_row_count=len(dataset.evaluation),
        evaluation_positive_count=positives,
    )
    shortage = _shortage(run, rule, dataset, champion)
    if shortage:
        return replace(run, status=FAILED, reason=shortage)
    try:
        trainer = load_trainer(run.trainer)
        on_progress(f"training on {len(dataset.training):,} rows with {run.trainer}")
        challenger = train_challenger(trainer, _training_set(run, champion, dataset, folder))
        threshold = (
            champion.threshold if challenger.threshold is None else float(challenger.threshold)
        )
        run = replace(
            run,
            challenger_version=challenger.version,
            challenger_threshold=threshold,
            artefact=challenger.artefact,
        )
        _require_new(challenger.version, used_versions)
        on_progress(f"comparing on {len(dataset.evaluation):,} rows that neither has seen")
        scores = predicted_scores(challenger, dataset.evaluation.features)
    except TrainerError as error:
        return replace(run, status=FAILED, reason=f"trainer_error: {error}")
    evaluation = evaluate(
        _is_positive(dataset.evaluation, champion),
        dataset.evaluation.champion_scores,
        scores,
        champion_threshold=champion.threshold,
        challenger_threshold=threshold,
    )
    run = replace(run, figures=figures_of(evaluation))
    comparison = evaluation.of(run.metric)
    if not comparison.is_better:
        return replace(run, status=REFUSED, reason="not_better_beyond_interval")
    on_progress(f"registering the baseline of version {challenger.version}")
    try:
        baseline = register_baseline(
            client,
            baseline_table(dataset.training, challenger),
            _roles(dataset.training),
            model_name=run.model_name,
            model_version=challenger.version,
            raw_database=settings.raw_database,
            description=challenger.description or f"retraining run {run.run_id}",
            feature_importance=challenger.feature_importance,
        )
    except (BaselineError, ColumnError) as error:
        return replace(run, status=FAILED, reason=f"baseline_refused: {error}")
    return replace(
        run,
        status=PROMOTED,
        reason="better_beyond_interval",
        baseline_id=baseline.baseline_id,
    )


def baseline_table(rows: Rows, challenger: Challenger) -> pa.Table:
    """Give the training rows, with out-of-fold scores, as register_baseline takes them.

    A segment that is a feature, too, is one column: it then has both roles.
    """
    columns = {str(name): _column(rows.features[name]) for name in rows.features.columns}
    for key in rows.segments.columns:
        columns.setdefault(str(key), pa.array(rows.segments[key], pa.string()))
    return pa.table(
        {
            **columns,
            _SCORE: pa.array(np.asarray(challenger.out_of_fold_scores, dtype=np.float64)),
            _LABEL: pa.array(rows.labels, pa.string()),
            _TIME: pa.array(rows.predicted_at, pa.timestamp("ms", "UTC")),
        }
    )


def _column(values: pd.Series[Any]) -> pa.Array:
    if isinstance(values.dtype, pd.CategoricalDtype):
        # Named, as Arrow could not tell the type of a category that is null throughout.
        return pa.array(values.astype(object), pa.string(), from_pandas=True)
    return pa.array(values)


def _roles(rows: Rows) -> Roles:
    segments = tuple(str(key) for key in rows.segments.columns)
    return Roles(
        score=_SCORE,
        label=_LABEL,
        time=_TIME,
        segments=segments,
        features=tuple(key for key in segments if key in rows.features.columns),
    )


def _training_set(
    run: RetrainingRun, champion: Champion, dataset: Dataset, folder: Path
) -> TrainingSet:
    folder.mkdir(parents=True, exist_ok=True)
    rows = dataset.training
    return TrainingSet(
        model_name=run.model_name,
        champion_version=run.champion_version,
        positive_label=champion.positive_label,
        threshold=champion.threshold,
        cut_off=run.cut_off,
        # Copies: what a trainer does to its rows must not reach the baseline.
        features=rows.features.copy(),
        labels=rows.labels.copy(),
        segments=rows.segments.copy(),
        predicted_at=rows.predicted_at.copy(),
        champion_scores=rows.champion_scores.copy(),
        work_folder=folder.absolute(),
    )


def _is_positive(rows: Rows, champion: Champion) -> NDArray[np.bool_]:
    return (rows.labels == champion.positive_label).to_numpy(dtype=np.bool_)


def _shortage(
    run: RetrainingRun, rule: RetrainingRule, dataset: Dataset, champion: Champion
) -> str:
    """Say of what there is too little to train and to compare; empty where there is enough."""
    trained = _is_positive(dataset.training, champion)
    if not trained.any() or trained.all():
        return (
            f"too_few_training_rows: {int(trained.sum())} positive and {int((~trained).sum())} "
            f"negative labels known from {run.training_from:%Y-%m-%d} to {run.cut_off:%Y-%m-%d}: "
            "raise training_days, or wait"
        )
    positives = run.evaluation_positive_count
    negatives = run.evaluation_row_count - positives
    if min(positives, negatives) < rule.minimum_evaluation_rows:
        return (
            f"too_few_evaluation_rows: {positives} positive and {negatives} negative labels known "
            f"from {run.cut_off:%Y-%m-%d} to {run.evaluation_until:%Y-%m-%d}, of "
            f"{rule.minimum_evaluation_rows} each: raise evaluation_days, or wait"
        )
    return ""


def _new_run(
    rule: RetrainingRule,
    champion: Champion,
    run_id: str,
    trigger: str,
    *,
    as_of: datetime,
    started_at: datetime,
) -> RetrainingRun:
    periods = Periods.ending(
        as_of,
        label_maturity=champion.label_maturity,
        training_days=rule.training_days,
        evaluation_days=rule.evaluation_days,
    )
    return RetrainingRun(
        run_id=run_id,
        model_name=rule.model_name,
        status=STARTED,
        trigger=trigger,
        trainer=rule.trainer,
        metric=rule.metric,
        champion_version=champion.version,
        as_of=periods.as_of,
        training_from=periods.training_from,
        cut_off=periods.cut_off,
        evaluation_until=periods.evaluation_until,
        started_at=started_at,
    )


def _same_run(
    client: Client, raw_database: str, run_id: str, model_name: str
) -> RetrainingRun | None:
    found = read_runs(client, raw_database, run_id=run_id)
    if found and found[0].model_name != model_name:
        raise RetrainingError(
            f"run {run_id} is one of {found[0].model_name}, not of {model_name}: give another id"
        )
    return found[0] if found else None


def _require_alone(earlier: Sequence[RetrainingRun], run_id: str, at: datetime) -> None:
    for run in earlier:
        if run.run_id != run_id and run.is_under_way(at):
            raise RetrainingError(
                f"run {run.run_id} of {run.model_name}, started {run.started_at:%Y-%m-%d %H:%M} "
                "UTC, has not ended. If its process is gone, go on with it: "
                f"driftline retrain {run.model_name} --run-id {run.run_id}"
            )


def _require_new(version: str, used_versions: frozenset[str]) -> None:
    if version in used_versions:
        raise TrainerError(f"version {version!r} was used before: give every challenger a new name")


def _used_versions(
    champion: Champion, earlier: Sequence[RetrainingRun], run_id: str
) -> frozenset[str]:
    promoted = (
        run.challenger_version for run in earlier if run.status == PROMOTED and run.run_id != run_id
    )
    return frozenset((*champion.served_versions, *promoted))


def _recorded(
    client: Client, settings: ClickHouseSettings, run: RetrainingRun, on_progress: OnProgress
) -> RetrainingRun:
    record_run(client, settings.raw_database, run)
    on_progress(f"{run.status}: {run.reason}")
    return run
