from __future__ import annotations

from dataclasses import fields
from datetime import date
from typing import Any

import pytest

from dashboard import queries
from dashboard.rows_statement import literal, rows_statement, segment_conditions
from dashboard.view import Choices, View, resolved
from dashboard.warehouse import Warehouse, WarehouseError, connect_as_analyst
from tests.dashboard.small_marts import NOW, RUN_VERSION, WEEKS, mart_columns


def view(warehouse: Warehouse, **chosen: str) -> View:
    span = next(one for one in queries.model_spans(warehouse) if one.model_name == "shop"
                and one.model_version == "1")  # fmt: skip
    return resolved(Choices(**chosen), span, queries.segments(warehouse, span), NOW)


@pytest.mark.parametrize(
    ("row_type", "marts"),
    [
        (queries.DriftCell, "fct_feature_drift"),
        (queries.DriftDetail, "fct_feature_drift"),
        (queries.PerformanceWindow, "fct_model_performance"),
        (queries.QualityWindow, "fct_data_quality"),
        (queries.ServiceWindow, "fct_service"),
    ],
)
def test_marts_of_every_granularity_have_the_columns_that_are_read(
    row_type: Any, marts: str
) -> None:
    read = {field.name for field in fields(row_type)}
    for suffix in ("daily", "weekly", "monthly"):
        assert read <= set(mart_columns()[f"{marts}_{suffix}"])


def test_health_is_of_the_newest_closed_week_and_names_the_silent_model(
    warehouse: Warehouse,
) -> None:
    shop, idle = queries.health(warehouse, NOW)
    assert (shop.model_name, shop.open_error_count, shop.open_warning_count) == ("shop", 1, 1)
    assert shop.unevaluated_rule_count == 1
    # The score is no feature, and the running week is no comparison.
    assert shop.drift_window_start == WEEKS[1]
    assert (shop.drifted_count, shop.warning_count, shop.evaluated_count) == (1, 1, 2)
    assert shop.performance_window_start == WEEKS[1]
    assert (shop.auc, shop.baseline_auc, shop.is_auc_beyond_interval) == (0.712, 0.8, 1)
    assert shop.service_window_start == WEEKS[1]
    assert shop.rate_per_second == pytest.approx(3_000 / 604_800)
    assert (idle.model_name, idle.prediction_count) == ("idle", 0)
    assert idle.auc is None
    assert idle.drift_window_start is None


def test_week_that_a_run_left_open_is_not_the_newest_closed_one(warehouse: Warehouse) -> None:
    # A month later no run has come: the last week is over, but was judged while it ran.
    later = NOW.replace(month=4)
    assert queries.health(warehouse, later)[0].drift_window_start == WEEKS[1]


def test_segments_are_everyone_first_then_by_size(warehouse: Warehouse) -> None:
    span = queries.model_spans(warehouse)[-1]
    assert queries.segments(warehouse, span) == [
        ("all", "all"),
        ("channel", "web"),
        ("channel", "shop|floor"),
    ]


def test_cells_are_of_the_chosen_segment_and_days(warehouse: Warehouse) -> None:
    everyone = queries.drift_cells(warehouse, view(warehouse))
    assert len(everyone) == 9
    found = queries.drift_cells(
        warehouse, view(warehouse, segment="channel", start="2026-03-09", end="2026-03-15")
    )
    assert [(cell.feature_name, cell.window_start, cell.psi) for cell in found] == [
        ("age", WEEKS[1], 0.05)
    ]


@pytest.mark.parametrize(
    ("feature", "window", "expected"),
    [
        ("", "", ("age", date(2026, 3, 9))),
        ("city", "", ("city", date(2026, 3, 9))),
        ("", "2026-03-02", ("age", date(2026, 3, 2))),
        ("city", "2026-03-16", ("city", date(2026, 3, 16))),
        ("nobody's", "", None),
    ],
)
def test_cell_shown_first_is_the_worst_of_the_newest_closed_window(
    warehouse: Warehouse, feature: str, window: str, expected: tuple[str, date] | None
) -> None:
    assert queries.worst_cell(warehouse, view(warehouse), feature, window, NOW) == expected


def test_detail_has_the_bins_of_its_baseline(warehouse: Warehouse) -> None:
    found = queries.drift_detail(warehouse, view(warehouse), "age", date(2026, 3, 9))
    assert found is not None
    cell, bins = found
    assert (cell.psi, cell.verdict) == (0.912, "drift")
    assert [one.kind for one in bins] == ["interval", "interval", "missing", "invalid"]
    assert len(cell.baseline_bin_counts) == len(bins)
    assert queries.drift_detail(warehouse, view(warehouse), "age", date(2020, 1, 6)) is None


def test_breaches_are_errors_first_and_keep_what_was_not_evaluated(warehouse: Warehouse) -> None:
    found = queries.breaches(warehouse, "shop")
    assert [one.monitor_name for one in found.open] == ["auc_fell", "ages_drifted"]
    assert (found.open_count, found.resolved_count) == (2, 1)
    assert [one.reason for one in found.not_evaluated] == ["below_min_rows"]
    assert found.runbook_url == "https://runbooks.example/shop"
    assert queries.breaches(warehouse, "idle").open == []


def test_live_minutes_are_of_the_version_shown(warehouse: Warehouse) -> None:
    found = warehouse.remembered_rows(queries.LIVE, 5)
    assert [row.prediction_count for row in queries.live_minutes(found, view(warehouse))] == [
        103, 102, 101,
    ]  # fmt: skip


def test_stamp_is_of_the_newest_run(warehouse: Warehouse) -> None:
    row = warehouse.rows(queries.STAMP)[0]
    assert (row["run_version"], row["model_count"]) == (RUN_VERSION, 2)


def test_names_are_values_and_never_sql(warehouse: Warehouse) -> None:
    hostile = "' or 1 = 1 -- {x:String}"
    assert queries.drift_detail(warehouse, view(warehouse), hostile, date(2026, 3, 9)) is None
    assert queries.breaches(warehouse, hostile).open == []


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, ["p0", "p2", "p1"]), ({"segment": "channel", "value": "web"}, ["p0", "p1"])],
)
def test_statement_of_a_cell_gives_the_rows_of_its_window(
    warehouse: Warehouse, chosen: dict[str, str], expected: list[str]
) -> None:
    shown = view(warehouse, **chosen)
    found = queries.drift_detail(warehouse, shown, "age", date(2026, 3, 9))
    assert found is not None
    rows = warehouse.rows(rows_statement(shown, found[0]))
    assert [row["prediction_id"] for row in rows] == expected
    # The first has no age: nothing, not 0.
    assert rows[0]["feature_value"] is None


def test_segment_of_several_keys_is_told_apart_at_unescaped_bars() -> None:
    assert segment_conditions("channel|city", r"shop\|floor|O'Hare") == [
        "segments['channel'] = 'shop|floor'",
        r"segments['city'] = 'O\'Hare'",
    ]
    assert segment_conditions("a|b", "__missing__|x") == [
        "not mapContains(segments, 'a')",
        "segments['b'] = 'x'",
    ]
    assert segment_conditions("all", "all") == []


@pytest.mark.parametrize("text", ["it's", "back\\slash", "\\'", "{a:String}", "line\nbreak"])
def test_literal_is_the_text_itself(warehouse: Warehouse, text: str) -> None:
    assert warehouse.rows(f"select {literal(text)} as text")[0]["text"] == text


def problem_with(environment: dict[str, str]) -> str:
    opened = Warehouse(lambda: connect_as_analyst(environment), lambda: 0.0)
    with pytest.raises(WarehouseError) as raised:
        opened.rows(queries.STAMP)
    assert raised.value.problem.remedy
    opened.close()
    return raised.value.problem.title


def test_problem_says_what_is_wrong(marts: dict[str, str]) -> None:
    assert problem_with({**marts, "CLICKHOUSE_DATABASE": "default"}) == (
        "The marts are not built yet"
    )
    assert problem_with({**marts, "CLICKHOUSE_DATABASE": "nowhere"}) == (
        "The marts are not built yet"
    )
    assert problem_with({**marts, "CLICKHOUSE_ANALYST_PASSWORD": "wrong"}) == (
        "ClickHouse refuses the analyst"
    )
    # Port 1 is of no one.
    assert problem_with({**marts, "CLICKHOUSE_PORT": "1"}) == "The warehouse cannot be reached"
    assert problem_with({**marts, "CLICKHOUSE_HOST": ""}) == "The warehouse is not configured"


def test_warehouse_that_comes_back_is_asked_again(marts: dict[str, str]) -> None:
    environment = {**marts, "CLICKHOUSE_PORT": "1"}
    opened = Warehouse(lambda: connect_as_analyst(environment), lambda: 0.0)
    with pytest.raises(WarehouseError):
        opened.rows("select 1 as one")
    environment["CLICKHOUSE_PORT"] = marts["CLICKHOUSE_PORT"]
    assert opened.rows("select 1 as one") == [{"one": 1}]
    opened.close()


def test_answer_is_remembered_for_every_page_and_longer_where_it_was_dear() -> None:
    asked: list[str] = []
    clock = [0.0]

    class Slow:
        def query(self, query: str, parameters: dict[str, Any]) -> Any:  # noqa: ARG002
            asked.append(query)
            clock[0] += 3.0

            class Result:
                column_names = ("n",)
                result_rows = ((len(asked),),)

            return Result()

        def close(self) -> None: ...

    opened = Warehouse(Slow, lambda: clock[0])
    assert opened.remembered_rows("live", 5) == [{"n": 1}]
    clock[0] += 11.9
    assert opened.remembered_rows("live", 5) == [{"n": 1}]
    clock[0] += 0.2
    assert opened.remembered_rows("live", 5) == [{"n": 2}]
