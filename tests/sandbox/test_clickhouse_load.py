"""Many clients at once: no error, nothing lost, nothing left behind, memory flat."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.sandbox.clickhouse_http import PlainHttp, wait_until
from tests.sandbox.clickhouse_load import Outcome, Sample, run_load
from tests.warehouse_fixtures import ClickHouseProcess

CLIENTS = 64
MEBIBYTE = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClickHouseProcess]:
    process = ClickHouseProcess(tmp_path / "data").start()
    yield process
    process.stop()


def resident(samples: list[Sample]) -> float:
    return statistics.median(sample.resident_bytes for sample in samples) / MEBIBYTE


def check_nothing_is_left(server: ClickHouseProcess, outcome: Outcome) -> None:
    assert outcome.errors == []
    http = PlainHttp(server, server.user, server.password)
    # What clients left running, the server notices and stops.
    wait_until(lambda: http.query("select count() from system.processes") == "1\n")
    assert http.query("select count() from busy.landed") == f"{outcome.acknowledged_rows}\n"
    assert list((server.data / "spool").iterdir()) == []
    assert server.process
    process = psutil.Process(server.process.pid)
    wait_until(lambda: not process.net_connections("tcp")[1:])  # the first one listens
    assert "Traceback" not in server.log.read_text()
    assert server.stop() == 0


def test_many_clients_get_what_they_ask_for_and_leave_nothing(server: ClickHouseProcess) -> None:
    outcome = run_load(server, CLIENTS, seconds=3)
    assert sum(outcome.done.values()) >= CLIENTS
    check_nothing_is_left(server, outcome)


@pytest.mark.conformance
@pytest.mark.timeout(900)
def test_memory_is_flat_under_five_minutes_of_load(
    server: ClickHouseProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run_load(server, CLIENTS, seconds=300)
    warm = [sample for sample in outcome.samples if 60 <= sample.seconds < 120]
    last = [sample for sample in outcome.samples if sample.seconds >= 240]
    figures = {
        "done": dict(outcome.done),
        "rows": outcome.acknowledged_rows,
        "resident MiB": [
            round(resident([s for s in outcome.samples if 30 * n <= s.seconds < 30 * (n + 1)]))
            for n in range(10)
        ],
        "most descriptors": max(sample.descriptors for sample in outcome.samples),
        "most threads": max(sample.threads for sample in outcome.samples),
    }
    with capsys.disabled():
        print(json.dumps(figures))  # noqa: T201 - for docs/sandbox-conformance.md
    check_nothing_is_left(server, outcome)
    assert resident(last) < resident(warm) * 1.1 + 50, figures
