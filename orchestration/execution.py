"""Running the asset graph from a command: in Dagster's instance of this home, so its UI shows it.

The run is a process of its own (`python -m orchestration.execution`): Dagster takes over standard
output while steps run, which would tear a progress bar. It reports by lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from driftline import settings
from orchestration.instance import PROCESS_TAG, open_instance, prepare_instance

EVERYTHING = "warehouse"


class ExecutionError(RuntimeError):
    """The run could not begin, or broke off. The message names the log."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run of the asset graph ended.

    `statuses` counts dbt's nodes by status, `warnings` names those that warn. `failures` are the
    messages of the failed steps by step, `materializations` the metadata of the assets beside
    dbt's (loader_lag, dbt_build, cloudwatch_publication, retraining_decisions) by key.
    """

    run_id: str
    succeeded: bool
    statuses: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    failed_checks: Sequence[str] = ()
    materializations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The counts of dbt's nodes in words."""
        return ", ".join(f"{count} {status}" for status, count in self.statuses.items())


def materialize_all(
    environment: Mapping[str, str],
    on_progress: Callable[[int, int], None] = lambda _done, _of: None,
    *,
    selection: str = "",
) -> RunOutcome:
    """Run the asset graph, or a Dagster selection of it, and wait until it has ended.

    `on_progress` is told of dbt's nodes (done, of). What the steps print goes to
    `logs/dagster-run.log` of DRIFTLINE_HOME. Failed steps are in the outcome; raises
    ExecutionError where the run could not begin or broke off.
    """
    log = settings.home(environment) / "logs" / "dagster-run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    outcome: RunOutcome | None = None
    command = [sys.executable, "-P", "-m", "orchestration.execution"]
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603
            [*command, *(["--select", selection] if selection else [])],
            env=prepare_instance(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                report = json.loads(line)
                if "outcome" in report:
                    outcome = RunOutcome(**report["outcome"])
                else:
                    on_progress(report["done"], report["of"])
        except BaseException:
            process.terminate()
            raise
    if outcome is None:
        raise ExecutionError(f"the run broke off: {_last_words(log)} (see {log})")
    return outcome


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "without a word"


def main(arguments: Sequence[str]) -> None:
    """Run the graph in this process; report on standard output, log to standard error."""
    selection = arguments[1] if arguments[:1] == ["--select"] else ""
    # A copy of standard output that Dagster, which redirects the numbers 1 and 2, does not know.
    with os.fdopen(os.dup(1), "w") as reports:
        os.dup2(2, 1)
        outcome = _execute(os.environ, selection, reports)
        _report(reports, outcome=asdict(outcome))


def _execute(environment: Mapping[str, str], selection: str, reports: TextIO) -> RunOutcome:
    import dagster as dg

    from orchestration.definitions import build_definitions
    from orchestration.defs.systems import Systems

    systems = Systems(on_dbt_progress=lambda done, of: _report(reports, done=done, of=of))
    built = build_definitions(environment, systems)
    if selection:
        built = dg.Definitions.merge(
            built, dg.Definitions(jobs=[dg.define_asset_job("chosen", selection=selection)])
        )
    job = built.resolve_job_def("chosen" if selection else EVERYTHING)
    instance = open_instance(environment)
    try:
        result = job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            tags={PROCESS_TAG: str(os.getpid())},
        )
        return _outcome(result)
    finally:
        instance.dispose()


def _outcome(result: Any) -> RunOutcome:
    statuses: Counter[str] = Counter()
    warnings: Sequence[str] = ()
    materializations: dict[str, dict[str, Any]] = {}
    for event in result.get_asset_materialization_events():
        found = event.materialization
        metadata = {name: _plain(value) for name, value in found.metadata.items()}
        if "unique_id" in metadata:
            # A node of dbt: counted in dbt_build.
            continue
        materializations[found.asset_key.to_user_string()] = metadata
        if "nodes" in metadata:
            for part in filter(None, str(metadata["nodes"]).split(", ")):
                count, _, status = part.partition(" ")
                statuses[status] += int(count)
            warnings = str(metadata.get("warnings", "")).split()
    failures = {
        event.step_key: _message(event.step_failure_data)
        for event in result.all_events
        if event.is_step_failure
    }
    failed_checks = [
        f"{one.asset_key.to_user_string()}: {one.check_name}"
        for one in result.get_asset_check_evaluations()
        if not one.passed and one.severity.value == "ERROR"
    ]
    return RunOutcome(
        run_id=result.run_id,
        succeeded=result.success,
        statuses=dict(statuses),
        warnings=warnings,
        failures=failures,
        failed_checks=failed_checks,
        materializations=materializations,
    )


def _plain(value: Any) -> Any:
    import dagster as dg

    if isinstance(value, dg.TableMetadataValue):
        return [dict(record.data) for record in value.records]
    return value.value


def _message(failure: Any) -> str:
    said = failure.user_failure_data.description if failure.user_failure_data else None
    return str(said or (failure.error.message if failure.error else "")).strip()


def _report(reports: TextIO, **content: Any) -> None:
    # Nobody reads on where the one who asked has gone: the run goes on all the same.
    with suppress(BrokenPipeError):
        reports.write(json.dumps(content) + "\n")
        reports.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
