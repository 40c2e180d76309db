"""What a prediction takes on disk, by table: landed, parsed, labelled, counted.

`python -m bench.storage` lands predictions of bench.messages, half of them with a label, runs dbt,
and asks ClickHouse for the bytes of its tables when all their parts are merged.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bench.messages import MODEL_NAME, MODEL_VERSION, predictions
from ingest.batches import Batch
from ingest.events import (
    LABEL_TYPE,
    PREDICTION_TYPE,
    EncodedEvent,
    cloud_event_headers,
    encode_label,
    encode_prediction,
)
from ingest.landing import ClickHouseSink
from ingest.messages import message_block
from ingest.offsets import PartitionId
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS
from tests.dbt_project.warehouse import Warehouse
from tests.warehouse_fixtures import ClickHouseProcess

_START = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH_ROWS = 50_000
_SEGMENT_SETS = (f"{MODEL_NAME},origin,", f"{MODEL_NAME},carrier,")


def land(warehouse: Warehouse, topic: str, event_type: str, events: Sequence[EncodedEvent]) -> None:
    """Land events as the loader does, batch by batch, with the headers of the loggers."""
    tables = {"predictions": PREDICTION_EVENTS, "labels": LABEL_EVENTS}
    sink = ClickHouseSink(warehouse.client, warehouse.raw_database, tables)
    common = cloud_event_headers(event_type, f"driftline/{MODEL_NAME}/{MODEL_VERSION}")
    partition = PartitionId("kafka", topic, "topic-id", 0)
    for first in range(0, len(events), _BATCH_ROWS):
        rows = events[first : first + _BATCH_ROWS]
        offsets = range(first, first + len(rows))
        block = message_block(
            offsets=list(offsets),
            timestamps=[int(_START.timestamp() * 1000) + offset for offset in offsets],
            keys=[event.prediction_id.encode() for event in rows],
            headers=[[*common, ("ce_id", event.prediction_id.encode())] for event in rows],
            values=[event.value for event in rows],
        )
        batch = Batch(partition, date(2026, 1, 1), (block,))
        sink.insert(batch, batch.token)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="predictions: %(default)s")
    rows = parser.parse_args().rows
    draw = random.Random(3)  # noqa: S311 - the same data every time, not a secret
    logged, labels = [], []
    for number, prediction in enumerate(predictions(rows)):
        prediction_id = str(uuid.UUID(int=draw.getrandbits(128), version=4))
        predicted_at = _START + timedelta(days=1) * (number / rows)
        logged.append(
            encode_prediction(
                model_name=MODEL_NAME,
                model_version=MODEL_VERSION,
                features=prediction.features,
                score=prediction.score,
                prediction_id=prediction_id,
                predicted_at=predicted_at,
                latency_ms=prediction.latency_ms,
                segments=prediction.segments,
            )
        )
        if number % 2:
            labels.append(
                encode_label(
                    model_name=MODEL_NAME,
                    prediction_id=prediction_id,
                    label="late" if draw.random() < prediction.score else "on_time",
                    observed_at=predicted_at + timedelta(hours=3),
                    source="arrivals",
                )
            )
    mean = sum(len(event.value) for event in logged) / rows
    with tempfile.TemporaryDirectory() as folder:
        server = ClickHouseProcess(Path(folder) / "data").start()
        try:
            warehouse = Warehouse(
                server,
                Path(folder),
                "storage",
                seeds={
                    "models": [f"{MODEL_NAME},binary,late,0.5,1,48,100,,,,"],
                    "segment_sets": _SEGMENT_SETS,
                },
            )
            land(warehouse, "predictions", PREDICTION_TYPE, logged)
            land(warehouse, "labels", LABEL_TYPE, labels)
            warehouse.run()
            print(f"{rows:,} predictions of {mean:.0f} B of JSON, {len(labels):,} labels")  # noqa: T201
            print("| table | rows | bytes | bytes a row |")  # noqa: T201
            print("|---|---:|---:|---:|")  # noqa: T201
            both = f"database in ('{warehouse.raw_database}', '{warehouse.database}')"
            for (table,) in warehouse.client.query(
                "select concat(database, '.', name) from system.tables "
                f"where engine like '%MergeTree' and {both}"
            ).result_rows:
                warehouse.client.command(f"optimize table {table} final")
            for table, count, size in warehouse.client.query(
                "select table, sum(rows) as row_count, sum(bytes_on_disk) as size "
                f"from system.parts where active and {both} "
                "group by table having row_count > 100 order by size desc"
            ).result_rows:
                print(f"| {table} | {count:,} | {size:,} | {size / count:.0f} |")  # noqa: T201
        finally:
            server.stop()


if __name__ == "__main__":
    main()
