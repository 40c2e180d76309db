"""The adapter taken alone: built, installed beside dbt-clickhouse only, used in a plain project."""

# No `from __future__ import annotations`: Dagster reads the annotations of an asset's function.

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster_dbt import DbtCliResource, dbt_assets

from tests.dbt_project.adapter.adapter_project import Project
from tests.warehouse_fixtures import ClickHouseProcess

REPOSITORY = Path(__file__).parents[3]
UV = str(Path(sys.executable).parent / "uv")
CONSTRAINTS = ("--constraint", str(REPOSITORY / "constraints.txt"))
# What dbt and Python look for; without any of these a model fails only when it is run.
EXPECTED = {
    "dbt/adapters/clickhousepy/__init__.py",
    "dbt/adapters/clickhousepy/__version__.py",
    "dbt/adapters/clickhousepy/py.typed",
    "dbt/include/clickhousepy/__init__.py",
    "dbt/include/clickhousepy/dbt_project.yml",
    "dbt/include/clickhousepy/macros/materialization_incremental.sql",
    "dbt/include/clickhousepy/macros/materialization_table.sql",
    "dbt/include/clickhousepy/macros/python_model.sql",
    "dbt/include/clickhousepy/macros/sharded_incremental.sql",
}

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]


def command(*arguments: str | Path, folder: Path) -> str:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build sdist and, from it, wheel."""
    folder = tmp_path_factory.mktemp("built")
    adapter = REPOSITORY / "dbt_project" / "adapter"
    command(UV, "build", "--quiet", adapter, "--out-dir", folder, folder=folder)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_and_sdist_hold_the_adapter_and_nothing_of_driftline(
    built: tuple[Path, Path],
) -> None:
    wheel, sdist = built
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        [metadata] = [name for name in archive.namelist() if name.endswith("METADATA")]
        described = archive.read(metadata).decode()
    assert names >= EXPECTED
    assert all(name.startswith("dbt/") for name in names)
    # `dbt` and `dbt.adapters` are namespaces that other packages are in.
    assert not names & {"dbt/__init__.py", "dbt/adapters/__init__.py", "dbt/include/__init__.py"}
    assert "driftline" not in described
    assert "# dbt-clickhousepy" in described
    with tarfile.open(sdist) as archive:
        members = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert members >= EXPECTED | {"LICENSE", "README.md", "pyproject.toml"}


def test_plain_project_runs_python_models_with_the_installed_wheel(
    built: tuple[Path, Path], clickhouse_server: ClickHouseProcess, tmp_path: Path
) -> None:
    wheel, _ = built
    environment = tmp_path / "environment"
    command(UV, "venv", "--quiet", "--python", sys.executable, environment, folder=tmp_path)
    python = environment / "bin" / "python"
    command(
        *(UV, "pip", "install", "--quiet", "--python", python),
        *(*CONSTRAINTS, wheel, "polars", "mypy"),
        folder=tmp_path,
    )
    (tmp_path / "project").mkdir()
    project = Project(clickhouse_server, tmp_path / "project")
    project.write("orders.sql", "select number as id, number % 3 as customer from numbers(9)")
    project.write(
        "customers.py",
        """
        import polars as pl

        def model(dbt, session):
            dbt.config(materialized="incremental", unique_key="customer", order_by="customer")
            orders = pl.from_arrow(dbt.ref("orders").to_arrow())
            return orders.group_by("customer").len("orders").sort("customer")
        """,
    )
    project.write(
        "schema.yml",
        """
        models:
          - name: customers
            columns:
              - {name: customer, data_type: UInt64, data_tests: [unique]}
              - {name: orders, data_type: UInt32}
        """,
    )
    for _ in range(2):
        done = subprocess.run(
            [environment / "bin" / "dbt", "build", "--profiles-dir", "."],
            cwd=project.folder,
            env={"PATH": os.environ["PATH"], "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert "PASS=3 WARN=0 ERROR=0 SKIP=0" in done.stdout
    assert project.rows("customers") == [(0, 3), (1, 3), (2, 3)]
    project.client.command(f"drop database {project.database}")

    # Typed: whoever imports it sees its types, not Any.
    (tmp_path / "reading.py").write_text(
        "from dbt.adapters.clickhousepy.lazy_relation import LazyRelation\n\n\n"
        "def rows(relation: LazyRelation) -> int:\n    return relation.limit('1').row_limit or 0\n"
    )
    checked = subprocess.run(
        [python, "-m", "mypy", "--strict", "reading.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Argument 1 to "limit" of "LazyRelation" has incompatible type "str"' in checked.stdout


def test_dagster_shows_the_lineage_of_python_models(
    clickhouse_server: ClickHouseProcess, tmp_path: Path
) -> None:
    project = Project(clickhouse_server, tmp_path)
    project.write("orders.sql", "select number as n from numbers(3)")
    project.write(
        "doubled.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table")
            orders = dbt.ref("orders").to_pandas()
            return orders * 2
        """,
    )
    project.write("total.sql", "select sum(n) as total from {{ ref('doubled') }}")
    dbt = DbtCliResource(
        project_dir=str(tmp_path),
        profiles_dir=str(tmp_path),
        dbt_executable=str(Path(sys.executable).parent / "dbt"),
    )

    @dbt_assets(manifest=project.manifest())
    def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[object]:
        yield from dbt.cli(["build"], context=context).stream()

    parents = {
        key.path[-1]: {parent.path[-1] for parent in found}
        for key, found in models.asset_deps.items()
    }
    assert parents == {"orders": set(), "doubled": {"orders"}, "total": {"doubled"}}
    done = dg.materialize([models], resources={"dbt": dbt})
    assert done.success
    materialized = {event.asset_key for event in done.get_asset_materialization_events()}
    assert materialized == set(models.keys)
    assert project.rows("total") == [(6,)]
    project.client.command(f"drop database {project.database}")
