"""The conventions of the dbt project, checked on its manifest and sources."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dbt_project.conftest import MakeWarehouse
from tests.dbt_project.warehouse import DBT_PROJECT, SEED_HEADERS

REPOSITORY = DBT_PROJECT.parent
DASHBOARD, ORCHESTRATION, SANDBOX = (
    REPOSITORY / name for name in ("dashboard", "orchestration", "sandbox")
)

Node = dict[str, Any]


@pytest.fixture(scope="module")
def manifest(make_warehouse: MakeWarehouse) -> dict[str, Any]:
    warehouse = make_warehouse("conventions")
    run = warehouse.dbt("parse")
    assert run.success, run.exception
    parsed: dict[str, Any] = json.loads((warehouse.target / "manifest.json").read_text())
    return parsed


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> list[Node]:
    return [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["package_name"] == "driftline"
    ]


def folder(model: Node) -> str:
    return str(model["path"]).split("/", maxsplit=1)[0]


def offenders(found: Iterator[str]) -> list[str]:
    return sorted(found)


def test_models_are_found(models: list[Node]) -> None:
    """Guard the tests below, which say nothing of an empty list."""
    assert {folder(model) for model in models} == {"staging", "intermediate", "marts"}
    assert len(models) > 50


def test_relations_come_from_ref_and_source_only(models: list[Node]) -> None:
    # `from` or `join`, then a name with a database; a CTE's name has none.
    hard_coded = re.compile(r"\b(?:from|join)\s+(?!\{)[`\"\w]+\.[`\"\w]+", re.IGNORECASE)
    sources = {
        str(path.relative_to(DBT_PROJECT)): path.read_text()
        for folder_name in ("models", "macros", "tests", "analyses")
        for path in (DBT_PROJECT / folder_name).rglob("*.sql")
    }
    assert len(sources) > len(models)
    assert not offenders(
        f"{path}: {found}"
        for path, sql in sources.items()
        for found in hard_coded.findall(_without_comments(sql))
    )


def _without_comments(sql: str) -> str:
    return re.sub(r"--[^\n]*|\{#.*?#\}", "", sql, flags=re.DOTALL)


def test_only_staging_reads_sources(models: list[Node]) -> None:
    assert not offenders(
        f"{model['name']} reads {source}"
        for model in models
        for source in model["depends_on"]["nodes"]
        if source.startswith("source.") and folder(model) != "staging"
    )


def test_marts_and_intermediates_are_named_by_layer(models: list[Node]) -> None:
    prefixes = {
        "staging": ("stg_raw__",),
        "intermediate": ("int_",),
        "marts": ("fct_", "dim_", "rpt_"),
    }
    assert not offenders(
        model["name"] for model in models if not model["name"].startswith(prefixes[folder(model)])
    )


def test_no_layer_reads_a_later_one(models: list[Node]) -> None:
    layers = {f"model.driftline.{model['name']}": folder(model) for model in models}
    assert not offenders(
        f"{model['name']} reads {parent}"
        for model in models
        for parent in model["depends_on"]["nodes"]
        if folder(model) == "staging" and layers.get(parent) in ("intermediate", "marts")
    )


def test_every_model_says_its_grain(models: list[Node]) -> None:
    grain = re.compile(r"\bgrain\b.*\bone row per\b", re.IGNORECASE | re.DOTALL)
    assert not offenders(
        model["name"] for model in models if not grain.search(model["description"])
    )


def test_every_mart_has_a_contract_or_types(models: list[Node]) -> None:
    """A Python model cannot have a contract: the adapter checks what it gives against the types."""
    marts = [model for model in models if folder(model) == "marts"]
    assert not offenders(
        model["name"]
        for model in marts
        if model["language"] == "sql" and not model["config"]["contract"]["enforced"]
    )
    python = [model for model in models if model["language"] == "python"]
    assert python
    assert not offenders(
        f"{model['name']}.{column['name']}"
        for model in [*marts, *python]
        for column in model["columns"].values()
        if not column["data_type"]
    )


def test_every_column_is_described(models: list[Node]) -> None:
    assert not offenders(
        f"{model['name']}.{column['name']}"
        for model in models
        for column in model["columns"].values()
        if not column["description"].strip()
    )
    assert not offenders(
        model["name"] for model in models if folder(model) == "marts" and not model["columns"]
    )


def test_every_mart_tests_its_grain(manifest: dict[str, Any], models: list[Node]) -> None:
    tested = {
        test["attached_node"]
        for test in manifest["nodes"].values()
        if test["resource_type"] == "test"
        and test.get("test_metadata", {}).get("name") in ("unique_combination", "unique")
    }
    assert not offenders(
        model["name"]
        for model in models
        if folder(model) == "marts" and model["unique_id"] not in tested
    )


def test_every_incremental_mart_has_a_unit_test(
    manifest: dict[str, Any], models: list[Node]
) -> None:
    """Granularities of one subject share their SQL, so one of them stands for all."""
    tested = {test["model"].rsplit("_", 1)[0] for test in manifest["unit_tests"].values()}
    assert not offenders(
        model["name"]
        for model in models
        if folder(model) == "marts"
        and model["config"]["materialized"] == "incremental"
        and model["name"].rsplit("_", 1)[0] not in tested
    )


def test_tables_state_their_order(models: list[Node]) -> None:
    assert not offenders(
        model["name"]
        for model in models
        if model["config"]["materialized"] == "incremental" and not model["config"].get("order_by")
    )


def test_ledger_comes_before_every_model_that_writes_to_it(
    manifest: dict[str, Any], models: list[Node]
) -> None:
    def ancestors(unique_id: str) -> set[str]:
        parents = set(manifest["parent_map"][unique_id])
        return parents.union(*(ancestors(parent) for parent in parents))

    assert not offenders(
        model["name"]
        for model in models
        if model["config"]["materialized"] == "incremental"
        and model["name"] != "int_run_ledger"
        and "model.driftline.int_run_ledger" not in ancestors(model["unique_id"])
    )


def test_seeds_and_analyses_are_described(manifest: dict[str, Any]) -> None:
    nodes = [
        node for node in manifest["nodes"].values() if node["resource_type"] in ("seed", "analysis")
    ]
    assert {"monitors", "mutes", "monitor_dry_run_breaches"} <= {node["name"] for node in nodes}
    assert not offenders(
        node["name"] for node in nodes if "Grain: one row " not in node["description"]
    )
    assert {
        node["name"]: set(node["columns"]) for node in nodes if node["resource_type"] == "seed"
    } == {name: set(header.split(",")) for name, header in SEED_HEADERS.items()}


def test_column_docs_are_used_and_found(manifest: dict[str, Any]) -> None:
    """What stands in _columns.md is what a column of that name means wherever it is used."""
    blocks = {
        name.removeprefix("doc.driftline.")
        for name in manifest["docs"]
        if name.startswith("doc.driftline.")
    }
    assert len(blocks) >= 30
    sources = " ".join(path.read_text() for path in (DBT_PROJECT / "models").rglob("*.yml"))
    used = set(re.findall(r"doc\('(\w+)'\)", sources))
    assert used == blocks


def test_exposures_name_what_their_code_reads(manifest: dict[str, Any], models: list[Node]) -> None:
    """Whoever changes a mart sees there whom it concerns."""
    code = {
        "dashboard": DASHBOARD.glob("*.py"),
        "cloudwatch": (ORCHESTRATION / "cloudwatch").glob("*.py"),
        "retraining": (ORCHESTRATION / "retraining").glob("*.py"),
        "alert_budget": (REPOSITORY / "driftline").glob("monitor_*.py"),
        "sql_cookbook": (REPOSITORY / "docs").glob("sql-cookbook.md"),
        "demo_report": SANDBOX.glob("flights_[rm]*.py"),
    }
    names = {model["name"] for model in models}
    exposures = {exposure["name"]: exposure for exposure in manifest["exposures"].values()}
    assert exposures.keys() == code.keys()
    declared = {
        name: {node.rsplit(".", 1)[1] for node in exposure["depends_on"]["nodes"]}
        for name, exposure in exposures.items()
    }
    read = {
        name: names & set(re.findall(r"\w+", " ".join(path.read_text() for path in paths)))
        for name, paths in code.items()
    }
    assert not offenders(
        f"{name} reads {model}" for name, found in read.items() for model in found - declared[name]
    )
    assert all(read.values())
    assert not offenders(
        name
        for name, exposure in exposures.items()
        if not exposure["description"].strip() or not exposure["owner"]["name"]
    )


def test_intermediates_do_not_build_on_marts_that_may_fail(
    manifest: dict[str, Any], models: list[Node]
) -> None:
    """A failed test of severity error skips what is downstream of its model."""
    children = manifest["child_map"]["model.driftline.fct_breaches"]
    assert not offenders(child for child in children if child.startswith("model."))


def test_no_model_reads_the_clock(models: list[Node]) -> None:
    """Windows come from the rows or from parameters, so that a run is repeatable."""
    clock = re.compile(r"\b(?:now|now64|today|yesterday)\s*\(", re.IGNORECASE)
    allowed = {
        # A view for live pages: what is live is what is now.
        "rpt_service_live",
    }
    assert not offenders(
        model["name"]
        for model in models
        if clock.search(_without_comments(model["raw_code"])) and model["name"] not in allowed
    )


def test_run_is_recorded_after_all_else_that_it_does(models: list[Node]) -> None:
    """A hook of a model's own would come after the ledger's; a run can die between the two."""
    expected = ["{{ remove_vanished() }}", "{{ record_run_version() }}"]
    assert not offenders(
        model["name"]
        for model in models
        if [hook["sql"] for hook in model["config"]["post-hook"]] != expected
    )
