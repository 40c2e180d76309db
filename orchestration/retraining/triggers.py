"""Which models are due for retraining: a sustained breach, and no run for the cool-down.

A rule of retraining.csv looks at the incidents of its monitors for the active version of its model.
An incident is sustained with `breaching_windows` breaching windows. One that is resolved still
counts for `lookback_days` after it was last seen, where no run has answered it: labels may come
late and in heaps, so that an incident opens and resolves within one build, seen by nobody.

A run answers its incidents: those of a promoted run never start another (the next version has its
own), those of a refused or failed one do so again while they are open, after the cool-down. The
cool-down counts from the start of any run, ended or cut short, so nothing can loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clickhouse_connect.driver.client import Client

from driftline.settings import ClickHouseSettings
from ingest.landing import LandingError, query_rows
from ingest.raw_tables import create_raw_tables, quoted
from orchestration.retraining import RetrainingError
from orchestration.retraining.runs import PROMOTED, RetrainingRun, read_runs

_LOG = logging.getLogger("driftline.retraining")

_UNKNOWN_TABLE, _UNKNOWN_DATABASE = 60, 81


class RetrainingRuleError(RetrainingError):
    """retraining.csv does not say how to retrain a model. The message names the remedy."""


@dataclass(frozen=True)
class RetrainingRule:
    """A row of retraining.csv; `monitors` empty means every rule of severity error.

    `problem` says why it cannot be used, `remedy` what to do; both are empty where it can.
    """

    model_name: str
    trainer: str
    monitors: tuple[str, ...]
    breaching_windows: int
    lookback_days: int
    cooldown_hours: int
    training_days: int
    evaluation_days: int
    minimum_evaluation_rows: int
    metric: str
    problem: str = ""
    remedy: str = ""

    @property
    def complaint(self) -> str:
        """Say what is wrong, and the remedy."""
        problem = self.problem.replace("_", " ")
        return f"retraining.csv, {self.model_name!r}: {problem}: {self.remedy}"


@dataclass(frozen=True)
class OpenBreach:
    """An incident of a model's active version: open, or recovered from; times in UTC."""

    breach_id: str
    model_name: str
    monitor_name: str
    severity: str
    breaching_window_count: int
    opened_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None = None


@dataclass(frozen=True)
class DueRetraining:
    """A model to retrain now, the incidents that ask for it, and why in words."""

    model_name: str
    breach_ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class NotDue:
    """A model not to retrain now, and why in words."""

    model_name: str
    reason: str


def due_retrainings(
    breaches: Iterable[OpenBreach],
    past_runs: Iterable[RetrainingRun],
    rules: Iterable[RetrainingRule],
    now: datetime,
) -> list[DueRetraining]:
    """Give the models due, in the order of the rules; rules with a problem are passed over."""
    all_breaches, all_runs = list(breaches), list(past_runs)
    judged = (judge(rule, all_breaches, all_runs, now) for rule in rules if not rule.problem)
    return [one for one in judged if isinstance(one, DueRetraining)]


def judge(
    rule: RetrainingRule,
    breaches: Iterable[OpenBreach],
    past_runs: Iterable[RetrainingRun],
    now: datetime,
) -> DueRetraining | NotDue:
    """Say whether the model of a rule is due, and why or why not."""
    model = rule.model_name
    runs = [run for run in past_runs if run.model_name == model]
    sustained = sustained_breaches(rule, breaches, runs, now)
    if not sustained:
        watched = ", ".join(rule.monitors) or "the rules of severity error"
        return NotDue(
            model,
            f"no unanswered incident of {watched} has {rule.breaching_windows} breaching windows",
        )
    under_way = next((run for run in runs if run.is_under_way(now)), None)
    cooldown = timedelta(hours=rule.cooldown_hours)
    latest = max(runs, key=lambda run: run.as_of, default=None)
    if latest is not None and now - latest.as_of < cooldown:
        until = latest.as_of + cooldown
        state = latest.status if latest.is_ended else "not ended"
        return NotDue(
            model,
            f"cool-down of {rule.cooldown_hours} h until {until:%Y-%m-%d %H:%M} UTC: run "
            f"{latest.run_id} of {latest.as_of:%Y-%m-%d %H:%M} UTC ({state})",
        )
    if under_way is not None:
        return NotDue(model, f"run {under_way.run_id} has not ended")
    worst = max(sustained, key=lambda breach: (breach.breaching_window_count, breach.breach_id))
    state = (
        "open"
        if worst.resolved_at is None or worst.resolved_at > now
        else f"last seen {worst.last_seen_at:%Y-%m-%d}"
    )
    others = f" and {len(sustained) - 1} more" if len(sustained) > 1 else ""
    return DueRetraining(
        model,
        tuple(sorted(breach.breach_id for breach in sustained)),
        f"{worst.monitor_name}: {worst.breaching_window_count} breaching windows since "
        f"{worst.opened_at:%Y-%m-%d}, {state}{others}",
    )


def sustained_breaches(
    rule: RetrainingRule,
    breaches: Iterable[OpenBreach],
    past_runs: Iterable[RetrainingRun],
    now: datetime,
) -> Sequence[OpenBreach]:
    """Give the incidents that ask for a run by this rule, whatever the cool-down says."""
    runs = [run for run in past_runs if run.model_name == rule.model_name]
    answered = {one for run in runs for one in run.breach_ids}
    settled = {one for run in runs if run.status == PROMOTED for one in run.breach_ids}
    lookback = timedelta(days=rule.lookback_days)

    def counts(breach: OpenBreach) -> bool:
        if breach.model_name != rule.model_name or breach.opened_at > now:
            return False
        if breach.monitor_name not in rule.monitors and (
            rule.monitors or breach.severity != "error"
        ):
            return False
        if breach.breaching_window_count < rule.breaching_windows or breach.breach_id in settled:
            return False
        if breach.resolved_at is None or breach.resolved_at > now:
            return True
        return breach.breach_id not in answered and now - breach.last_seen_at <= lookback

    return [breach for breach in breaches if counts(breach)]


def read_due(client: Client, settings: ClickHouseSettings, now: datetime) -> list[DueRetraining]:
    """Give the models due at `now`, from marts and the runs recorded so far.

    What is wrong with a rule is logged as an error; the others go on. Raises RetrainingRuleError
    where the marts are not built yet, and LandingError where ClickHouse cannot be asked.
    """
    rules = read_rules(client, settings)
    for rule in rules:
        if rule.problem:
            _LOG.error("%s", rule.complaint)
    create_raw_tables(client, settings.raw_database)
    return due_retrainings(
        read_breaches(client, settings), read_runs(client, settings.raw_database), rules, now
    )


def judge_model(
    client: Client, settings: ClickHouseSettings, model_name: str, now: datetime
) -> DueRetraining | NotDue:
    """Say whether a model is due at `now`, and why or why not; raises as `read_rule` does."""
    rule = read_rule(client, settings, model_name)
    create_raw_tables(client, settings.raw_database)
    runs = read_runs(client, settings.raw_database, model_name=model_name)
    return judge(rule, read_breaches(client, settings), runs, now)


def read_rule(client: Client, settings: ClickHouseSettings, model_name: str) -> RetrainingRule:
    """Give the rule of one model; raises RetrainingRuleError where it cannot be used."""
    rules = read_rules(client, settings)
    rule = next((rule for rule in rules if rule.model_name == model_name), None)
    if rule is None:
        known = ", ".join(rule.model_name for rule in rules) or "none"
        raise RetrainingRuleError(
            f"retraining.csv has no model {model_name!r} (it has: {known}): add a row, then "
            "driftline dbt build --select +int_retraining_rules"
        )
    if rule.problem:
        raise RetrainingRuleError(rule.complaint)
    return rule


def read_rules(client: Client, settings: ClickHouseSettings) -> Sequence[RetrainingRule]:
    """Give every row of retraining.csv, with what is wrong with it, by model."""
    rows = _mart_rows(
        client,
        "select model_name, trainer, monitors, breaching_windows, lookback_days, "  # noqa: S608
        "cooldown_hours, training_days, evaluation_days, minimum_evaluation_rows, metric, problem, "
        "remedy "
        f"from {quoted(settings.database)}.int_retraining_rules order by model_name",
        "look-up of the rules of retraining",
    )
    return [RetrainingRule(row[0], row[1], tuple(row[2]), *row[3:]) for row in rows]


def read_breaches(client: Client, settings: ClickHouseSettings) -> Sequence[OpenBreach]:
    """Give the incidents of active versions that may start a retraining.

    Not those that a change of version resolved, nor those of rules whose actions leave it out.
    """
    rows = _mart_rows(
        client,
        "select breaches.breach_id, breaches.model_name, breaches.monitor_name, "  # noqa: S608
        "breaches.severity, breaches.breaching_window_count, breaches.opened_at, "
        "breaches.last_seen_at, breaches.resolved_at "
        f"from {quoted(settings.database)}.fct_breaches as breaches "
        f"inner join {quoted(settings.database)}.dim_models as models "
        "on breaches.model_name = models.model_name "
        "and breaches.model_version = models.active_version "
        "where breaches.status in ('open', 'resolved') "
        "and position(breaches.actions, 'retrain') > 0 "
        "and breaches.reason in ('', 'recovered') and models.active_version != '' "
        "order by breaches.opened_at, breaches.breach_id",
        "look-up of incidents",
    )
    return [OpenBreach(*row[:5], *(_utc(moment) for moment in row[5:])) for row in rows]


def _mart_rows(client: Client, statement: str, doing: str) -> Sequence[Sequence[Any]]:
    try:
        return query_rows(client, statement, {}, doing)
    except LandingError as error:
        if error.code in (_UNKNOWN_TABLE, _UNKNOWN_DATABASE):
            raise RetrainingRuleError(
                f"{doing}: the marts are not built yet: driftline dbt build"
            ) from error
        raise


def _utc(moment: Any) -> Any:
    """Give a moment of the warehouse, which is UTC, with its zone; null stays null."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
