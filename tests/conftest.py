"""Fixtures that every folder of tests may use, and the order in which tests run."""

import os
import signal
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "tests.warehouse_fixtures",
    "tests.sandbox.clickhouse_http",
    "tests.kafka.fixtures",
]

# Reproducible, and patient: a machine busy with other tests is slow, not wrong.
settings.register_profile(
    "driftline",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("conformance", settings.get_profile("driftline"), max_examples=3000)
settings.load_profile("driftline")

# A shell has what it starts in the background ignore Ctrl-C, and so would the commands under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def described_columns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all warehouses of all workers share queries' columns: the models are the same."""
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with mock.patch.dict(
        os.environ, {"DRIFTLINE_DESCRIBED_COLUMNS": str(folder / "described_columns.json")}
    ):
        yield


# Fixtures that take long to make. Their tests stay with one worker.
_SHARED = ("replay", "demo", "drift_warehouse")
# What takes longest begins first, so that no worker is left alone with it in the end.
_LONGEST_FIRST = (
    *_SHARED,
    "tests/orchestration/dagster/test_runs.py",
    "tests/end_to_end/test_drift_to_alarm.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run fast tests first; give a worker all tests of a file, or of a fixture that takes long."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        group = _group(item)
        is_long = group in _LONGEST_FIRST
        rank = _LONGEST_FIRST.index(group) if is_long else len(_LONGEST_FIRST)
        return item.get_closest_marker("slow") is not None, rank

    items.sort(key=place)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    used = getattr(item, "fixturenames", ())
    return next((name for name in _SHARED if name in used), item.nodeid.split("::")[0])
