"""A warehouse with generated rows, and what dbt's models take over them.

Rows are put into `int_predictions` typed, as if parsed, by the engine itself: features are normal
numbers made of hashes of the row's number, so that every run and every peer sees the same ones.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.watched_process import cpu_seconds
from tests.dbt_project.warehouse import Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

MODEL, VERSION = "m", "1"
FIRST_HOUR = "2026-01-01 00:00:00"
# Baseline rows are others than those of any window.
_FIRST_BASELINE_ROW = 1 << 40
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Shape:
    """How many rows, features, values of the one segment, and hours in which they come."""

    rows: int
    features: int
    segments: int
    hours: int

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [f"f{number:02d}" for number in range(self.features)]


@dataclass(frozen=True)
class Run:
    """What one dbt run took. Seconds of models by name; memory and CPU are the server's."""

    seconds: float
    models: dict[str, float]
    cpu_seconds: float
    peak_mib: float

    @property
    def model_seconds(self) -> float:
        """All models together, without dbt's own start."""
        return sum(self.models.values())

    def seconds_of(self, models: Sequence[str]) -> float:
        """Give those of some models together; one that did not run took none."""
        return sum(self.models.get(name, 0.0) for name in models)


@dataclass
class MeasuredWarehouse:
    """A server, the dbt project on it, and rows to come."""

    warehouse: Warehouse
    process: psutil.Process
    _is_built: bool = field(default=False, init=False)

    def register_baseline(self, rows: int, shape: Shape) -> None:
        """Land a baseline in raw."""
        features = f"cast(({shape.names}, {_values(shape)}), 'Map(String, Float64)')"
        self.warehouse.query(
            f"insert into {self.warehouse.raw_database}.baseline_rows "
            "(baseline_id, row_number, value) select 'baseline', number - "
            f"{_FIRST_BASELINE_ROW}, concat('{{\"features\":', toJSONString({features}), "
            f'\',"segments":{{"segment":"\', {_segment(shape)}, \'"}}}}\') '
            f"from numbers({_FIRST_BASELINE_ROW}, {rows})"
        )
        types = f"cast(({shape.names}, {['numeric'] * shape.features}), 'Map(String, String)')"
        self.warehouse.query(
            f"insert into {self.warehouse.raw_database}.baselines (baseline_id, model_name, "
            "model_version, row_count, feature_types, registered_at) select 'baseline', "
            f"'{MODEL}', '{VERSION}', {rows}, {types}, now64(3)"
        )

    def put_rows(self, shape: Shape, first_row: int = 0, first_hour: int = 0) -> None:
        """Put typed rows into `int_predictions`, in order of time."""
        self.warehouse.query(
            "insert into {database}.int_predictions (cluster, topic, prediction_id, model_name, "
            "model_version, predicted_at, predicted_hour, number_features, segments, value_hash, "
            "landed_at, run_version) select 'bench', 'predictions', "
            "lower(hex(sipHash128(number))), "
            f"'{MODEL}', '{VERSION}', toDateTime64('{FIRST_HOUR}', 3, 'UTC') + "
            f"toIntervalMillisecond({first_hour} * 3600000 + intDiv((number - {first_row}) * "
            f"{shape.hours * 3_600_000}, {shape.rows})) as at, toStartOfHour(at), "
            f"cast(({shape.names}, {_values(shape)}), 'Map(LowCardinality(String), Float64)'), "
            f"map('segment', {_segment(shape)}), number, at, toUnixTimestamp64Micro(now64(6)) "
            f"from numbers({first_row}, {shape.rows})"
        )

    def land_events(self, shape: Shape) -> None:
        """Land the same rows as JSON events, as the loader would."""
        features = f"toJSONString(cast(({shape.names}, {_values(shape)}), 'Map(String, Float64)'))"
        self.warehouse.query(
            f"insert into {self.warehouse.raw_database}.prediction_events (cluster, topic, "
            "topic_id, partition, offset, value, landed_at) select 'bench', "
            "'predictions', '', 0, number, concat('{\"schema_version\":1,\"prediction_id\":\"', "
            f'lower(hex(sipHash128(number))), \'","model_name":"{MODEL}","model_version":"'
            f'{VERSION}","predicted_at":"2026-01-01T00:00:00.000Z","features":\', {features}, '
            f'\',"prediction":{{"score":0.5}},"segments":{{"segment":"\', {_segment(shape)}, '
            f"'\"}}}}'), now64(3) from numbers({shape.rows})"
        )

    def export(self, shape: Shape, folder: Path) -> Path:
        """Write the window's rows as Parquet with a column each: day, segment, features."""
        file = folder / "window.parquet"
        features = ", ".join(f"number_features['{name}'] as {name}" for name in shape.names)
        self._write(
            "select toDate(predicted_hour) as day, segments['segment'] as segment, "
            f"{features} from {self.warehouse.database}.int_predictions",
            file,
        )
        return file

    def export_baseline(self, rows: int, shape: Shape, folder: Path) -> Path:
        """Write the baseline's rows as Parquet."""
        file = folder / "baseline.parquet"
        features = ", ".join(
            f"{_value(number)} as {name}" for number, name in enumerate(shape.names)
        )
        self._write(
            f"select {_segment(shape)} as segment, {features} "
            f"from numbers({_FIRST_BASELINE_ROW}, {rows})",
            file,
        )
        return file

    def build(self, *select: str) -> Run:
        """Run models and give what they took."""
        with _sampled(self.process) as sample:
            started = time.monotonic()
            result = self.warehouse.dbt("build", "--select", *select)
            seconds = time.monotonic() - started
        if not result.success:
            messages = [f"{one.node.name}: {one.message}" for one in result.result or []]
            raise AssertionError(result.exception or "\n".join(messages))
        models = {
            one.node.name: float(one.execution_time)
            for one in result.result
            if one.node.resource_type == "model"
        }
        return Run(seconds, models, sample.cpu_seconds, sample.peak_mib)

    def _write(self, statement: str, file: Path) -> None:
        with file.open("wb") as written:
            stream = self.warehouse.client.raw_stream(statement, fmt="Parquet")
            for piece in stream:
                written.write(piece)


@contextmanager
def measured_warehouse(name: str) -> Iterator[MeasuredWarehouse]:
    """Start a server of its own over a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="driftline-metrics-") as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            warehouse = Warehouse(
                server,
                Path(folder),
                name,
                seeds={
                    "models": [f"{MODEL},binary,yes,0.5,{VERSION},48,300,,,"],
                    "segment_sets": [f"{MODEL},segment"],
                },
                variables={"baseline_backfill_days": 3650},
            )
            if server.process is None:
                raise AssertionError("the server has no process")
            yield MeasuredWarehouse(warehouse, psutil.Process(server.process.pid))
        finally:
            server.stop()


@dataclass
class _Sample:
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0


@contextmanager
def _sampled(process: psutil.Process) -> Iterator[_Sample]:
    """Watch a process's resident memory, and count its CPU seconds."""
    sample = _Sample()
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            sample.peak_mib = max(sample.peak_mib, process.memory_info().rss / 2**20)

    watcher = threading.Thread(target=watch, daemon=True)
    before = cpu_seconds(process)
    watcher.start()
    try:
        yield sample
    finally:
        is_over.set()
        watcher.join()
        sample.cpu_seconds = cpu_seconds(process) - before


def _value(feature: int) -> str:
    """Box and Muller's normal number out of two hashes of the row's number."""
    radius = f"sqrt(-2 * log((intHash64(number * 64 + {feature}) + 1) / 18446744073709551617.))"
    angle = f"2 * pi() * intHash64(number * 64 + {feature + 32}) / 18446744073709551616."
    return f"{radius} * cos({angle})"


def _values(shape: Shape) -> str:
    return f"[{', '.join(_value(feature) for feature in range(shape.features))}]"


def _segment(shape: Shape) -> str:
    return f"concat('s', toString(intHash64(number) % {shape.segments}))"
