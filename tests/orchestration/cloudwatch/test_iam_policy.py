"""The policy that is shipped allows every call that is made, and no more than that."""

from __future__ import annotations

import json
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.orchestration.cloudwatch.mart_tables import MartTables
from tests.orchestration.cloudwatch.test_publisher import run

POLICY = Path(__file__).parents[3] / "deploy" / "iam-policy.json"
ALARM = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:"
DASHBOARD = "arn:aws:cloudwatch::123456789012:dashboard/"


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def is_allowed(action: str, resource: str, **context: str) -> bool:
    """Judge as IAM does, for the statements and conditions that the policy uses."""
    for statement in json.loads(POLICY.read_text())["Statement"]:
        conditions = statement.get("Condition", {})
        assert set(conditions) <= {"StringEquals"}
        if (
            statement["Effect"] == "Allow"
            and f"cloudwatch:{action}" in listed(statement["Action"])
            and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
            and all(
                context.get(key) == value
                for key, value in conditions.get("StringEquals", {}).items()
            )
        ):
            return True
    return False


def test_policy_allows_every_call_that_a_publication_makes(
    warehouse: MartTables, cloudwatch: Any, now: datetime
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    cloudwatch.meta.events.register(
        "before-parameter-build.cloudwatch.*",
        lambda params, model, **_: calls.append((model.name, dict(params))),
    )
    rule = {"model_name": "m", "monitor_name": "fell"}
    warehouse.fill("dim_models", {"model_name": "m"})
    warehouse.fill("int_monitor_rules", rule)
    run(warehouse, cloudwatch, now, "first")
    run(warehouse, cloudwatch, now, "second")
    warehouse.replace("int_monitor_rules")
    warehouse.replace("dim_models")
    run(warehouse, cloudwatch, now, "third")

    used = set()
    for action, arguments in calls:
        used.add(action)
        context = {"cloudwatch:namespace": arguments.get("Namespace", "")}
        resources = ["*"]
        if action in ("PutMetricAlarm", "DeleteAlarms"):
            names = arguments.get("AlarmNames") or [arguments["AlarmName"]]
            resources = [ALARM + name for name in names]
        if action in ("GetDashboard", "PutDashboard", "DeleteDashboards"):
            names = arguments.get("DashboardNames") or [arguments["DashboardName"]]
            resources = [DASHBOARD + name for name in names]
        for resource in resources:
            assert is_allowed(action, resource, **context), (action, resource)

    granted = {
        action.removeprefix("cloudwatch:")
        for statement in json.loads(POLICY.read_text())["Statement"]
        for action in listed(statement["Action"])
        # Those of S3 are the archive's: tests/ingest/test_archive_policy.py.
        if action.startswith("cloudwatch:")
    }
    assert granted == used


def test_policy_allows_nothing_beyond_namespace_and_prefix() -> None:
    assert is_allowed("PutMetricData", "*", **{"cloudwatch:namespace": "Driftline"})
    assert not is_allowed("PutMetricData", "*", **{"cloudwatch:namespace": "AWS/EC2"})
    assert not is_allowed("PutMetricAlarm", f"{ALARM}production-cpu")
    assert not is_allowed("DeleteAlarms", f"{ALARM}production-cpu")
    for action in ("GetDashboard", "PutDashboard", "DeleteDashboards"):
        assert not is_allowed(action, f"{DASHBOARD}production")
    assert not is_allowed("SetAlarmState", f"{ALARM}driftline-rule/m/fell")
