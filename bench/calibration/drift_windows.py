"""Windows whose counts are known, judged by the drift mart's own SQL.

dbt compiles `fct_feature_drift_daily`; counts go into the tables it reads, as if predictions had
been counted, and the engine runs the model as it is. Nothing here computes a distance or a test.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.dbt_project.warehouse import Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

Counts = NDArray[np.int64]

_DATABASE = "calibration"
_MODEL, _VERSION, _BASELINE = "m", "1", "b"
_FIRST_DAY = "toDateTime('2025-01-06 00:00:00', 'UTC')"
_EMPTIED = (
    "int_feature_binning",
    "int_baseline_histograms",
    "int_feature_histograms_hourly",
    "int_feature_histograms_daily",
)


@dataclass(frozen=True)
class Windows:
    """Windows to compare, one row each; arrays of counts are (rows, bins).

    Rows of one `day` are one family of tests. A feature has a baseline of its own in each segment;
    without segments, everyone's, which its bins are the deciles of.
    """

    baseline: Counts
    current: Counts
    day: NDArray[np.int64]
    feature: NDArray[np.int64]
    segment: NDArray[np.int64] | None


@dataclass(frozen=True)
class DriftMart:
    """A warehouse with the drift mart's tables, and the mart's SQL."""

    warehouse: Warehouse
    compiled: str

    def judge(self, windows: Windows, columns: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Give columns of the mart, one element for each row of `windows`, in its order."""
        self._put(windows)
        found = self.warehouse.client.query_arrow(
            f"select {', '.join(columns)} from ({self.compiled}) "
            "where comparison = 'baseline' order by "
            "toUInt32(feature_name), toUInt32OrZero(toString(segment_value)), window_start"
        )
        if found.num_rows != len(windows.day):
            raise AssertionError(f"{found.num_rows} rows of {len(windows.day)} came back")
        segment = 0 * windows.day if windows.segment is None else windows.segment
        order = np.lexsort((windows.day, segment, windows.feature))
        place = np.argsort(order)
        return {name: found[name].to_numpy()[place] for name in columns}

    def _put(self, windows: Windows) -> None:
        for table in _EMPTIED:
            self.warehouse.query(f"truncate table {{database}}.{table}")
        rows = pa.table(
            {
                "feature_name": pa.array(windows.feature.astype(str)),
                "segment_value": pa.array(
                    ["all"] * len(windows.day)
                    if windows.segment is None
                    else windows.segment.astype(str)
                ),
                "day": pa.array(windows.day),
                "baseline": _lists(windows.baseline),
                "current": _lists(windows.current),
            }
        )
        self.warehouse.query(
            "create or replace table {database}.windows (feature_name String, "
            "segment_value String, day Int64, baseline Array(UInt64), current Array(UInt64)) "
            "engine = Memory"
        )
        self.warehouse.client.insert_arrow(f"{_DATABASE}.windows", rows)
        segment_key = "'all'" if windows.segment is None else "'segment'"
        edges = windows.baseline.shape[1] - 1 if windows.segment is None else 0
        of_version = f"'{_MODEL}', '{_VERSION}', {_FIRST_DAY} + toIntervalDay(day)"
        for statement in (
            "insert into {database}.int_feature_binning "
            "(baseline_id, feature_name, feature_type, edges) "
            f"select distinct '{_BASELINE}', feature_name, 'numeric', range({edges}) "
            "from {database}.windows",
            "insert into {database}.int_baseline_histograms "
            "(baseline_id, segment_key, segment_value, feature_name, bin_counts) "
            f"select '{_BASELINE}', {segment_key}, segment_value, feature_name, any(baseline) "
            "from {database}.windows group by segment_value, feature_name",
            "insert into {database}.int_feature_histograms_hourly "
            "(model_name, model_version, predicted_hour, run_version) "
            f"select distinct {of_version}, 1 from {{database}}.windows",
            "insert into {database}.int_feature_histograms_daily "
            "(baseline_id, model_name, model_version, window_start, segment_key, segment_value, "
            "feature_name, row_count, bin_counts) "
            f"select '{_BASELINE}', {of_version}, {segment_key}, segment_value, feature_name, "
            "arraySum(current), current from {database}.windows",
        ):
            self.warehouse.query(statement)


@contextmanager
def drift_mart() -> Iterator[DriftMart]:
    """Start the engine, make the mart's tables, and have dbt compile the mart."""
    with tempfile.TemporaryDirectory(prefix="driftline-calibration-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            warehouse = Warehouse(
                server,
                Path(folder),
                _DATABASE,
                seeds={"models": [f"{_MODEL},binary,yes,0.5,{_VERSION},48,1,,,"]},
            )
            warehouse.run("--select", "+fct_feature_drift_daily")
            warehouse.query(
                "insert into {database}.dim_baselines (baseline_id, model_name, model_version, "
                f"is_active) values ('{_BASELINE}', '{_MODEL}', '{_VERSION}', 1)"
            )
            yield DriftMart(warehouse, _compiled(warehouse, "fct_feature_drift_daily"))
        finally:
            server.stop()


def _compiled(warehouse: Warehouse, model: str) -> str:
    """Give a model's SQL as on a first run, when every window counts."""
    with redirect_stdout(io.StringIO()):  # dbt prints what it compiles
        run = warehouse.dbt("compile", "--select", model, "--full-refresh")
    if not run.success:
        raise AssertionError(run.exception)
    [text] = [found.node.compiled_code for found in run.result if found.node.name == model]
    return str(text)


def _lists(counts: Counts) -> pa.Array:
    rows, bins = counts.shape
    offsets = np.arange(0, (rows + 1) * bins, bins, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(counts.astype(np.uint64).ravel()))
