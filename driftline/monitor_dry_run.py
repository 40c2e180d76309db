"""What a rule would have found over the past, by the SQL of the marts, without writing anything.

The statements are analyses of the dbt project, made of the macros that fct_breaches comes from,
with one rule in place of monitors.csv. dbt compiles them without a connection; they are run as the
read-only analyst.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from driftline import settings
from driftline.dbt_command import dbt_command, dbt_environment

# The columns of monitors.csv.
RULE_COLUMNS = (
    "monitor_name", "model_name", "metric", "segment_key", "feature_name", "granularity",
    "comparator", "threshold", "min_rows", "windows_breaching", "windows_considered", "severity",
    "actions",
)  # fmt: skip
# Of a rule that is made up of options, where an option is not given.
DEFAULTS: Mapping[str, str] = {
    "monitor_name": "dry_run",
    "segment_key": "all",
    "feature_name": "",
    "granularity": "week",
    "min_rows": "300",
    "windows_breaching": "1",
    "windows_considered": "1",
    "severity": "warn",
    "actions": "",
}
_ANALYSES = ("monitor_dry_run_rule", "monitor_dry_run_breaches", "monitor_dry_run_windows")
# What the other two take of the first one's row.
_CHECKED_COLUMNS = (*RULE_COLUMNS, "metric_source")
_COMPILED = Path("compiled/driftline/analyses")

Row = dict[str, Any]


class DryRunError(ValueError):
    """The rule cannot be tried on this warehouse. The message names the remedy."""


class QueryClient(Protocol):
    """The part of a clickhouse-connect client that reads."""

    def query(self, query: str, /, *, parameters: dict[str, Any]) -> Any:
        """Run a query; the answer has `named_results`."""


@dataclass(frozen=True)
class Statements:
    """The compiled statements.

    The parameters of `rule` are the columns of monitors.csv, as text; those of the others what it
    answers.
    """

    rule: str
    breaches: str
    windows: str


@dataclass(frozen=True)
class Budget:
    """A model's incidents a week beside what its people can take seriously.

    `others` counts the incidents that the model's other rules opened, by the Monday of the week.
    """

    incidents_per_week: int
    others: Mapping[date, int]


@dataclass(frozen=True)
class DryRun:
    """What a rule would have found.

    `incidents` and `muted` are rows of the columns of fct_breaches; `obstacle` says why no window
    counts, and is empty where one does. `windows` has a row for each obstacle ('' where windows
    count). `in_place` is how many incidents fct_breaches has of the rule of this name, None where
    there is no such rule.
    """

    rule: Mapping[str, str]
    incidents: Sequence[Row]
    muted: Sequence[Row]
    obstacle: str
    windows: Sequence[Row]
    budget: Budget
    in_place: int | None

    @property
    def by_week(self) -> Mapping[date, int]:
        """The incidents by the Monday of the week in which they open."""
        return Counter(monday(row["opened_at"]) for row in self.incidents)

    @property
    def weeks(self) -> float:
        """The time that the windows that count stand for, in weeks; 0 without any."""
        counted = [row for row in self.windows if row["obstacle"] == ""]
        if not counted:
            return 0.0
        span: timedelta = counted[0]["last_window_end"] - counted[0]["first_window_start"]
        return span / timedelta(weeks=1)

    @property
    def incidents_per_week(self) -> float:
        """How often the rule would have rung, on average; 0 where no window counts."""
        return len(self.incidents) / max(self.weeks, 1.0) if self.weeks else 0.0

    @property
    def weeks_over_budget(self) -> Mapping[date, tuple[int, int]]:
        """Weeks in which it would ring and the model's budget be exceeded: (this rule, others)."""
        return {
            week: (count, self.budget.others.get(week, 0))
            for week, count in sorted(self.by_week.items())
            if count + self.budget.others.get(week, 0) > self.budget.incidents_per_week
        }


def monday(moment: datetime) -> date:
    """Give the Monday of a moment's week."""
    return moment.date() - timedelta(days=moment.weekday())


def monitors_file(environment: Mapping[str, str]) -> Path:
    """Give the monitors.csv in use."""
    project = Path(dbt_environment(environment)["DBT_PROJECT_DIR"])
    return project / (environment.get("DRIFTLINE_CONFIGURATION") or "seeds") / "monitors.csv"


def configured_rule(
    client: QueryClient, database: str, name: str, environment: Mapping[str, str]
) -> dict[str, str]:
    """Give a rule by name: of monitors.csv as it stands, else one that features.csv implies.

    Raises DryRunError where there is none, or more than one.
    """
    path = monitors_file(environment)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise DryRunError(f"{path}: {error.strerror}: see DRIFTLINE_CONFIGURATION") from None
    found = [row for row in rows if row.get("monitor_name") == name]
    if len(found) > 1:
        raise DryRunError(f"{path} has {len(found)} rules {name!r}: give each a name of its own")
    if found:
        return {column: found[0].get(column) or "" for column in RULE_COLUMNS}
    implied = list(
        _rows(
            client,
            "select * from {database:Identifier}.int_monitor_rules "
            "where monitor_name = {name:String} and is_implied",
            {"database": database, "name": name},
        )
    )
    if implied:
        return {column: str(implied[0][column]) for column in RULE_COLUMNS}
    names = ", ".join(str(row.get("monitor_name")) for row in rows) or "none"
    raise DryRunError(
        f"there is no rule {name!r} in {path}: name one of its rules ({names}), "
        "or give a rule by --model, --metric, --comparator and --threshold"
    )


def made_up_rule(given: Mapping[str, str]) -> dict[str, str]:
    """Give the rule that options make. Raises DryRunError naming the options that it lacks."""
    needed = {
        "model_name": "--model",
        "metric": "--metric",
        "comparator": "--comparator",
        "threshold": "--threshold",
    }
    lacking = [option for column, option in needed.items() if not given.get(column)]
    if lacking:
        raise DryRunError(
            f"the rule lacks {', '.join(lacking)}: give them, or name a rule of monitors.csv with "
            "--monitor"
        )
    return {**DEFAULTS, **given}


def compile_statements(environment: Mapping[str, str], as_of: datetime | None = None) -> Statements:
    """Have dbt compile the statements, without a connection; takes seconds.

    `as_of` decides which windows are over and which labels complete (None: now). Raises DryRunError
    with dbt's words where it cannot, SettingsError as dbt_environment does.
    """
    # Not dbt's usual folder: a build may be writing to that.
    target = settings.home(environment) / "dbt" / "dry_run"
    arguments = ["--quiet", "compile", "--no-introspect", "--no-populate-cache"]
    arguments += ["--select", *_ANALYSES]
    if as_of is not None:
        moment = as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        arguments += ["--vars", json.dumps({"as_of": moment})]
    done = subprocess.run(  # noqa: S603
        dbt_command(arguments),
        env={
            **dbt_environment(environment),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stdout + done.stderr).strip()
        raise DryRunError(f"dbt cannot compile the rules' SQL:\n{words}")
    return Statements(*((target / _COMPILED / f"{name}.sql").read_text() for name in _ANALYSES))


def dry_run(
    client: QueryClient, database: str, rule: Mapping[str, str], statements: Statements
) -> DryRun:
    """Try a rule on the marts of `database`.

    Raises DryRunError where the rule could never be evaluated, or the marts are not built; and the
    client's errors.
    """
    declared = {column: rule[column] for column in RULE_COLUMNS}
    [checked] = _rows(client, statements.rule, declared)
    if checked["problem"]:
        raise DryRunError(
            f"rule {rule['monitor_name']!r}: {checked['problem'].replace('_', ' ')} "
            f"({checked['declaration']}): {checked['remedy']}"
        )
    parameters = {column: checked[column] for column in _CHECKED_COLUMNS}
    found = _rows(client, statements.breaches, parameters)
    unevaluated = [row for row in found if row["status"] == "not_evaluated"]
    return DryRun(
        rule=dict(rule),
        incidents=[row for row in found if row["status"] in ("open", "resolved")],
        muted=[row for row in found if row["status"] == "muted"],
        obstacle=unevaluated[0]["reason"] if unevaluated else "",
        windows=_rows(client, statements.windows, parameters),
        budget=_budget(client, database, rule),
        in_place=_in_place(client, database, rule["monitor_name"]),
    )


def _budget(client: QueryClient, database: str, rule: Mapping[str, str]) -> Budget:
    names = {"database": database, "model": rule["model_name"], "monitor": rule["monitor_name"]}
    [of_model] = _rows(
        client,
        # An aggregate: rules about topics are of no model.
        "select toUInt32(max(incidents_per_week)) as budget from {database:Identifier}.dim_models "
        "where model_name = {model:String} or {model:String} = '*'",
        names,
    )
    others = _rows(
        client,
        "select toMonday(assumeNotNull(opened_at)) as week, count() as incident_count "
        "from {database:Identifier}.fct_breaches "
        "where model_name = {model:String} and monitor_name != {monitor:String} "
        "and status in ('open', 'resolved', 'retracted') group by week",
        names,
    )
    return Budget(
        incidents_per_week=int(of_model["budget"]),
        others={row["week"]: row["incident_count"] for row in others},
    )


def _in_place(client: QueryClient, database: str, name: str) -> int | None:
    [found] = _rows(
        client,
        "select (select count() from {database:Identifier}.int_monitor_rules "
        "where monitor_name = {name:String}) as rule_count, "
        "(select count() from {database:Identifier}.fct_breaches "
        "where monitor_name = {name:String} and status in ('open', 'resolved')) as incident_count",
        {"database": database, "name": name},
    )
    return int(found["incident_count"]) if found["rule_count"] else None


# Unknown identifier, unknown table, unknown database.
_NOT_BUILT = ("(UNKNOWN_IDENTIFIER)", "(UNKNOWN_TABLE)", "(UNKNOWN_DATABASE)")


def _rows(client: QueryClient, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
    from clickhouse_connect.driver.exceptions import DatabaseError

    try:
        answer = client.query(statement, parameters=dict(parameters))
    except DatabaseError as error:
        if any(word in str(error) for word in _NOT_BUILT):
            raise DryRunError(
                "the marts are not built, or by another version of the project: driftline dbt "
                f"build ({error})"
            ) from error
        raise
    return [dict(row) for row in answer.named_results()]
