"""The page in a browser, on the small marts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

import pytest
from playwright.sync_api import Browser
from werkzeug.serving import make_server

from dashboard.app import create_app
from dashboard.warehouse import Warehouse, connect_as_analyst
from tests.dashboard import small_marts
from tests.dashboard.browsing import chromium, visit
from tests.dashboard.small_marts import NOW, WEEKS
from tests.warehouse_fixtures import ClickHouseProcess


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@contextmanager
def served(environment: Mapping[str, str], every_seconds: float = 3.0) -> Iterator[str]:
    """Serve the page over a warehouse, in the middle of March 2026; give its address.

    It looks for news `every_seconds`: on a machine busy with other tests, what one chooses should
    not meet an update each time.
    """
    warehouse = Warehouse(lambda: connect_as_analyst(environment), monotonic)
    app = create_app(
        warehouse, lambda: NOW, live_seconds=every_seconds, check_seconds=every_seconds
    )
    server = make_server("127.0.0.1", 0, app.server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        warehouse.close()


def test_page_shows_the_marts_and_follows_what_is_chosen(
    browser: Browser, marts: dict[str, str]
) -> None:
    with served(marts) as address, visit(browser, address) as seen:
        card = seen.text(".card.is-shown")
        assert card.startswith("shop ▲ in breach version 1 · binary · shop-team")
        for figure in ("1 error, 1 warn", "1 of 2", "0.712 ▼ \N{MINUS SIGN}0.088 vs 0.800",
                       "96.7%", "33 h ago", "17.9 /h", "21 ms"):  # fmt: skip
            assert figure in card, figure
        # The newest closed week's worst cell is open by itself.
        detail = seen.text("#detail")
        assert "age week of 9 Mar 2026 to 15 Mar 2026 drift" in detail
        assert "PSI 0.912" in detail
        rules = seen.text("#breaches")
        assert "auc_fell auc >= 0.75, 2 of 3 weeks everyone 1 9 Mar 2026 00:00 1 0.712" in rules
        assert "labels_missing" in rules
        assert "too few rows in the window" in rules
        assert seen.page.get_attribute("#breaches td a", "href") == (
            "https://runbooks.example/shop"
        )
        assert "age worst 31.0% null" in seen.text("#quality")
        assert "Complete in every window: city." in seen.text("#quality")
        live = seen.text("#live-tiles")
        assert "Last hour 306" in live
        assert "Rejected 1" in live

        # The first column of the second row.
        seen.click_cell(0, 1)
        seen.wait_for_text("#detail", "city week of 2 Mar 2026")
        assert "feature=city&window=2026-03-02" in seen.page.url
        seen.wait_for_text("#rows-statement", "string_features")

        seen.choose("feature", "age")
        seen.wait_for_text("#detail", "age week of 2 Mar 2026")
        seen.choose("window", "week of 16 Mar 2026")
        seen.wait_for_text("#detail", "not evaluated the window is not closed yet")

        seen.choose("segment", "channel")
        seen.wait_for_text("#drift-note", "3 cells: 0 drift")
        seen.wait_for_text("#rows-statement", "segments['channel'] = 'web'")
        seen.choose("value", "shop|floor")
        seen.wait_for_text("#drift-message", "Nothing was compared")

        shared = seen.page.url
        seen.page.go_back()
        seen.wait_for_text("#drift-note", "3 cells: 0 drift")
        assert seen.complaints == []

        with visit(browser, shared) as other:
            other.wait_for_text("#choose-value", "shop|floor")
            other.wait_for_text("#drift-message", "Nothing was compared")
            assert other.complaints == []


def test_narrow_page_scrolls_in_one_direction(browser: Browser, marts: dict[str, str]) -> None:
    with served(marts) as address, visit(browser, address, width=400) as seen:
        seen.text("#rows-statement")
        # A chart is drawn at its default width and then fitted into its frame.
        seen.page.wait_for_function(
            """() => {
                const drawn = [...document.querySelectorAll('.chart .main-svg')];
                return drawn.length && drawn.every(each => each.clientWidth <= innerWidth);
            }"""
        )
        seen.page.wait_for_function("document.documentElement.scrollWidth === innerWidth")
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 400


def test_model_without_predictions_says_how_to_log_them(
    browser: Browser, marts: dict[str, str]
) -> None:
    with served(marts) as address, visit(browser, f"{address}?model=idle") as seen:
        assert "No predictions yet" in seen.text(".card.is-shown")
        seen.wait_for_text("#drift-message", "Nothing was compared")
        seen.wait_for_text("#performance", "No performance yet")
        seen.wait_for_text("#live-tiles", "Nothing has landed")
        assert seen.complaints == []


def test_empty_warehouse_says_what_to_do(browser: Browser, empty_marts: dict[str, str]) -> None:
    with served(empty_marts) as address, visit(browser, address) as seen:
        assert "There is no model yet" in seen.text("#problem")
        assert not seen.page.is_visible("#page")
        assert seen.complaints == []


def test_page_recovers_by_itself_and_follows_new_runs_and_landed_events(
    browser: Browser, marts: dict[str, str], clickhouse_server: ClickHouseProcess
) -> None:
    # A database of its own, since this test writes to it.
    database = "dashboard_moving"
    environment = {**marts, "CLICKHOUSE_DATABASE": database, "CLICKHOUSE_PORT": "1"}
    client = clickhouse_server.client()
    with served(environment, 0.3) as address, visit(browser, address) as seen:
        seen.wait_for_text("#problem", "The warehouse cannot be reached")
        environment["CLICKHOUSE_PORT"] = marts["CLICKHOUSE_PORT"]
        seen.wait_for_text("#problem", "The marts are not built yet")
        assert "driftline dbt build" in seen.text("#problem")

        small_marts.create_empty_marts(client, database)
        small_marts.fill(client, database)
        seen.wait_for_text("#detail", "PSI 0.912")
        assert seen.page.inner_text("#problem") == ""

        landed = NOW - timedelta(seconds=10)
        live = {"model_name": "shop", "model_version": "1", "landed_minute": NOW,
                "prediction_count": 77, "last_landed_at": landed}  # fmt: skip
        small_marts.insert(client, database, "rpt_service_live", [live])
        seen.wait_for_text("#live-tiles", "Last hour 383")
        seen.wait_for_text("#live-tiles", "10 s ago")

        client.command(
            f"alter table {database}.fct_feature_drift_weekly update"
            " psi = 0.333, run_version = run_version + 1 where feature_name = 'age'",
            settings={"mutations_sync": 1},
        )
        seen.wait_for_text("#detail", "PSI 0.333")

        # Away again: what was read last stays, dimmed, beneath the reason.
        client.command(f"drop table {database}.fct_breaches")
        seen.wait_for_text("#problem", "The marts are not built yet")
        assert "is-stale" in (seen.page.get_attribute("#page", "class") or "")
        assert "0.333" in seen.text("#detail")
        assert f"{WEEKS[1]:%-d %b}" in seen.text("#detail")
    client.close()
