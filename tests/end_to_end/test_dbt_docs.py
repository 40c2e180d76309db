"""`dbt docs generate` on the demo: no warning, and every column that is there is described."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.finished_demo import Demo


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_docs_are_generated_without_a_warning_and_describe_what_is_there(demo: Demo) -> None:
    parsed = demo.driftline("dbt", "parse")  # writes the manifest
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    done = demo.driftline("dbt", "--no-use-colors", "docs", "generate", "--no-compile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "Catalog written to" in done.stdout

    target = demo.home / "dbt/target"
    catalog = json.loads((target / "catalog.json").read_text())["nodes"]
    manifest = json.loads((target / "manifest.json").read_text())["nodes"]
    described = {
        node["name"]: (unique_id, node["columns"])
        for unique_id, node in manifest.items()
        if node["resource_type"] == "seed"
        or (node["resource_type"] == "model" and node["fqn"][1] == "marts")
        or node["name"].startswith(("int_monitor", "int_breaches"))
    }
    assert len(described) > 30
    differing = {
        name: set(catalog[unique_id]["columns"]) ^ set(columns)
        for name, (unique_id, columns) in described.items()
        if set(catalog[unique_id]["columns"]) != set(columns)
    }
    assert differing == {}
