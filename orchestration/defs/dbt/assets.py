"""The dbt project as one step: models and seeds are assets, tests are checks of them.

The step itself does not fail for what dbt's nodes do: the publication to CloudWatch must come
whatever the tests say, and Dagster would skip it after a failed step. `dbt_build`, made by every
run, says how dbt ended; its check fails the run after all else where a node failed
(docs/decisions/0026).
"""

# No postponed annotations here: Dagster compares that of the context as it stands.

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import ResourceParam
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, dbt_assets
from dbt.version import __version__ as dbt_version
from packaging.version import Version

from driftline.dbt_command import dbt_command
from driftline.settings import SettingsError
from orchestration.dbt_arguments import dbt_arguments
from orchestration.dbt_manifest import Manifest, dagster_dbt_environment
from orchestration.dbt_outcome import SHOWN_ERRORS, DbtOutcome
from orchestration.defs.owners import OWNERS
from orchestration.defs.systems import Systems

DBT_BUILD = dg.AssetKey("dbt_build")
EVERY_NODE_SUCCEEDED = "every_node_succeeded"


class DbtConfig(dg.Config):
    """What a launch of the warehouse may say."""

    full_refresh: bool = False
    as_of: str = ""
    """A moment in ISO 8601 that decides which labels count as mature; empty: the run's start."""


class Translator(DagsterDbtTranslator):
    """Names and groups the project's nodes: a group is a layer, a raw table is `raw/<table>`."""

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Give the layer; seeds are the configuration.

        Breaches and retraining are groups of their own, across the layers: what is judged are
        marts, and by layer the graph would run back from them to the intermediate models.
        """
        if dbt_resource_props["resource_type"] == "seed":
            return "configuration"
        name = dbt_resource_props["name"]
        if "retraining" in name:
            return "retraining"
        if "monitor" in name or "breach" in name:
            return "breaches"
        return str(dbt_resource_props["fqn"][1])

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Give the description alone: the SQL is in the project."""
        return str(dbt_resource_props.get("description") or "").strip()

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        """Give the owners of everything here."""
        return OWNERS

    def get_asset_spec(self, manifest: Any, unique_id: str, project: Any) -> dg.AssetSpec:
        """Say what a node is made with: SQL or Python on ClickHouse, or a CSV file."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = manifest["nodes"].get(unique_id, {})
        made_with = {"seed": "csv"}.get(node.get("resource_type"), node.get("language", "sql"))
        return spec.replace_attributes(kinds={"dbt", "clickhouse", made_with})


def build_dbt_assets(manifest: Manifest) -> dg.AssetsDefinition:
    """Give the step that runs dbt for the assets and checks that are chosen."""
    translator = Translator()

    @dbt_assets(
        manifest=manifest,
        dagster_dbt_translator=translator,
        exclude="resource_type:unit_test",
        name="project",
    )
    def project() -> Iterator[Any]:
        """Give the specs of the nodes; never run."""
        yield from ()

    nodes = {
        _key_of(translator, manifest, unique_id): ".".join(node["fqn"])
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in ("model", "seed", "snapshot")
    }
    tests = {
        node["name"]: ".".join(node["fqn"])
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
    }
    specs = [*project.specs, _build_spec(translator, manifest)]

    @dg.multi_asset(
        name="dbt",
        specs=specs,
        # dbt itself skips what hangs on a failed test. A blocking check would fail this step.
        check_specs=[spec._replace(blocking=False) for spec in project.check_specs],
        can_subset=True,
        op_tags={"dagster/compute_kind": "dbt"},
        description="dbt build of what is chosen: seeds, models and their tests.",
    )
    def dbt(
        context: dg.AssetExecutionContext, config: DbtConfig, systems: ResourceParam[Systems]
    ) -> Iterator[Any]:
        chosen = set(context.selected_asset_keys)
        chosen_tests = {key.name for key in context.selected_asset_check_keys} & tests.keys()
        wanted = sorted(nodes[key] for key in chosen if key in nodes)
        wanted += sorted(tests[name] for name in chosen_tests)
        if not wanted:
            raise dg.Failure("dbt_build is about the run of dbt: choose models or tests with it")
        if len(wanted) == len(nodes) + len(list(project.check_specs)):
            wanted = []
        outcome = DbtOutcome()
        try:
            arguments = dbt_arguments(
                as_of=_moment(config.as_of),
                select=[f"fqn:{name}" for name in wanted],
                full_refresh=config.full_refresh,
            )
        except ValueError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        yield from run_dbt(context, systems, manifest, arguments, outcome)
        if DBT_BUILD in chosen:
            yield dg.MaterializeResult(
                asset_key=DBT_BUILD, metadata=_build_metadata(outcome, arguments)
            )
        elif outcome.exit_code:
            # Nobody asked for the check that would fail the run.
            raise dg.Failure(outcome.failure)

    return dbt


def run_dbt(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    systems: Systems,
    manifest: Manifest,
    arguments: list[str],
    outcome: DbtOutcome,
) -> Iterator[Any]:
    """Run dbt, alone on the warehouse, and give Dagster's events as its nodes end.

    How it ended is in `outcome`, which this fills; failed nodes raise nothing. Raises Failure with
    the remedy where the environment is wrong.
    """
    try:
        environment = dagster_dbt_environment(systems.variables())
    except SettingsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    translator = Translator()
    with systems.exclusive():
        invocation = DbtCliInvocation.run(
            args=dbt_command(["--no-use-colors", *arguments]),
            env=environment,
            manifest=manifest,
            dagster_dbt_translator=translator,
            project_dir=Path(environment["DBT_PROJECT_DIR"]),
            target_path=Path(environment["DBT_TARGET_PATH"]),
            raise_on_error=False,
            context=context,
            adapter=None,
            cli_version=Version(dbt_version),
        )
        for event in invocation.stream_raw_events():
            outcome.read(event.raw_event, systems.on_dbt_progress)
            yield from event.to_default_asset_events(manifest, translator, context)
        outcome.exit_code = invocation.process.wait()
    if outcome.exit_code and not outcome.errors:
        outcome.errors.append("dbt ended early: its last words are in the run's output")


@dg.multi_asset_check(
    name="dbt_verdict",
    specs=[
        dg.AssetCheckSpec(
            EVERY_NODE_SUCCEEDED,
            asset=DBT_BUILD,
            description="No model failed, and no test of severity error. Else the run fails.",
        )
    ],
)
def dbt_verdict(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Fail where dbt did: as a step of its own, which skips none of the others."""
    event = context.instance.get_latest_materialization_event(DBT_BUILD)
    built = event.asset_materialization if event else None
    if event is None or built is None:
        raise dg.Failure("dbt has not run yet: materialize dbt_build")
    found = {name: value.value for name, value in built.metadata.items()}
    is_good = found["exit_code"] == 0
    errors = str(found.get("errors", ""))
    yield dg.AssetCheckResult(
        check_name=EVERY_NODE_SUCCEEDED,
        asset_key=DBT_BUILD,
        passed=is_good,
        metadata={"nodes": str(found["nodes"]), **({"errors": errors} if errors else {})},
    )
    if not is_good and event.run_id == context.run.run_id:
        raise dg.Failure(f"dbt: {found['nodes']}\n{errors}", allow_retries=False)


def _build_spec(translator: Translator, manifest: Manifest) -> dg.AssetSpec:
    models = {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
    }
    leaves = [
        unique_id
        for unique_id in models
        if not any(child in models for child in manifest["child_map"].get(unique_id, []))
    ]
    return dg.AssetSpec(
        key=DBT_BUILD,
        deps=[_key_of(translator, manifest, unique_id) for unique_id in sorted(leaves)],
        group_name="dbt",
        owners=OWNERS,
        kinds={"dbt"},
        skippable=True,
        description=(
            "The last run of dbt: how many nodes ended how. It is made even where nodes failed, "
            "so that what hangs on it runs whatever the tests say; then its check fails."
        ),
    )


def _key_of(translator: Translator, manifest: Manifest, unique_id: str) -> dg.AssetKey:
    return translator.get_asset_spec(manifest, unique_id, None).key


def _build_metadata(outcome: DbtOutcome, arguments: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "exit_code": outcome.exit_code,
        "nodes": outcome.summary,
        "arguments": " ".join(arguments),
    }
    if outcome.warnings:
        metadata["warnings"] = "\n".join(sorted(outcome.warnings))
    if outcome.errors:
        metadata["errors"] = "\n".join(outcome.errors[:SHOWN_ERRORS])
    return metadata


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
