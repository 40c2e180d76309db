from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import boto3
from botocore.stub import Stubber

from orchestration.cloudwatch.alarms import Pace
from orchestration.cloudwatch.cloudwatch_dashboard import (
    Dashboard,
    dashboard_name,
    dashboard_of,
    synchronise_dashboards,
)
from orchestration.cloudwatch.gauges import MODEL_GAUGES, Model, Rule
from tests.orchestration.cloudwatch.test_alarms import MODEL, RULE, ManualClock

PREFIX = "driftline-"


def dashboard(*rules: Rule, model: Model = MODEL) -> Dashboard:
    return dashboard_of(
        model, rules, prefix=PREFIX, namespace="Driftline", region="eu-west-1", period_seconds=3600
    )


def synchronise(cloudwatch: Any, *wanted: Dashboard) -> Any:
    pace: Pace = ManualClock().pace()
    return synchronise_dashboards(cloudwatch, wanted, prefix=PREFIX, pace=pace)


def test_dashboard_shows_every_gauge_the_heartbeat_and_the_models_own_rules() -> None:
    other = replace(RULE, model_name="other", name="not_ours")
    broken = replace(RULE, name="broken", problem="unknown_metric")
    header, *widgets = json.loads(dashboard(RULE, other, broken).body)["widgets"]

    shown = [widget["properties"]["metrics"][0] for widget in widgets]
    of_version = ["Model", "flights", "ModelVersion", "1"]
    assert shown == [
        *(["Driftline", name, *of_version] for name in MODEL_GAUGES),
        ["Driftline", "EvaluationsCompleted", "Model", "flights"],
        ["Driftline", "RuleBreached", "Model", "flights", "Rule", "auc_fell"],
    ]
    assert "flight-operations" in header["properties"]["markdown"]
    assert "https://runbooks.example/flights" in header["properties"]["markdown"]


def test_widgets_do_not_overlap_and_keep_to_the_page() -> None:
    widgets = dashboard(*(replace(RULE, name=f"rule{number}") for number in range(20))).widgets
    cells = [
        (x, y)
        for widget in widgets
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_dashboard_has_at_most_five_hundred_widgets_and_says_what_is_left_out() -> None:
    many = dashboard(*(replace(RULE, name=f"rule{number}") for number in range(600)))
    assert len(many.widgets) == 500
    shown_rules = 500 - 1 - len(MODEL_GAUGES) - 1
    header = many.widgets[0]["properties"]["markdown"]
    assert f"{600 - shown_rules} more rules do not fit" in header


def test_names_keep_to_what_cloudwatch_takes_and_stay_apart() -> None:
    names = [dashboard_name(PREFIX, name) for name in ("a.b", "a b", "a_b", "m" * 300, "m" * 301)]
    assert names[2] == "driftline-a_b"
    assert len(set(names)) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,255}", name) for name in names)


def test_dashboard_is_put_only_when_it_changed(cloudwatch: Any) -> None:
    first = synchronise(cloudwatch, dashboard(RULE))
    same = synchronise(cloudwatch, dashboard(RULE))
    changed = synchronise(cloudwatch, dashboard(RULE, replace(RULE, name="more")))

    assert (first.put, first.problems) == (("driftline-flights",), ())
    assert (same.put, same.unchanged) == ((), ("driftline-flights",))
    assert changed.put == ("driftline-flights",)
    body = cloudwatch.get_dashboard(DashboardName="driftline-flights")["DashboardBody"]
    assert "more" in body


def test_dashboards_of_models_that_are_gone_are_deleted_and_no_others(cloudwatch: Any) -> None:
    cloudwatch.put_dashboard(DashboardName="other", DashboardBody='{"widgets": []}')
    synchronise(cloudwatch, dashboard(), dashboard(model=replace(MODEL, name="gone")))
    changes = synchronise(cloudwatch, dashboard())

    assert changes.deleted == ("driftline-gone",)
    entries = cloudwatch.list_dashboards()["DashboardEntries"]
    assert {entry["DashboardName"] for entry in entries} == {"other", "driftline-flights"}


def test_refusals_and_warnings_are_reported() -> None:
    client = boto3.client(
        "cloudwatch", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        stub.add_response("list_dashboards", {"DashboardEntries": []})
        stub.add_client_error("put_dashboard", "InvalidParameterInput", "bad body", 400)
        stub.add_response(
            "put_dashboard",
            {"DashboardValidationMessages": [{"DataPath": "/widgets/1", "Message": "odd"}]},
        )
        changes = synchronise(client, dashboard(), dashboard(model=replace(MODEL, name="b")))

    assert changes.put == ("driftline-b",)
    assert "driftline-flights was not put" in changes.problems[0]
    assert changes.problems[1] == "dashboard driftline-b: odd"
