"""The consumer one writes first, to compare with: json.loads, then `client.insert` of 10,000 rows.

At least once: the offset is committed after the insert. It asks for thousands of messages at once.
`python -m bench.plain_consumer COUNT COLUMNS` ends after so many messages. COLUMNS is `all`: the
fields of the event as columns, features and segments as maps; or `few`: four fields and the text.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer

from driftline.settings import ClickHouseSettings, KafkaSettings
from ingest.warehouse import connect

_ROWS = 10_000
_FEW = {
    "prediction_id": "String",
    "model_name": "LowCardinality(String)",
    "model_version": "LowCardinality(String)",
    "predicted_at": "DateTime64(3, 'UTC')",
}
_COLUMNS = {
    "few": {**_FEW, "value": "String"},
    "all": {
        **_FEW,
        "score": "Nullable(Float64)",
        "latency_ms": "Nullable(Float64)",
        "status": "LowCardinality(String)",
        "features": "Map(String, String)",
        "segments": "Map(String, String)",
    },
}


def row_of(value: bytes, columns: str) -> tuple[Any, ...]:
    """Give the columns of one message."""
    event = json.loads(value)
    few = (
        event["prediction_id"],
        event["model_name"],
        event["model_version"],
        datetime.fromisoformat(event["predicted_at"]),
    )
    if columns == "few":
        return (*few, value.decode())
    return (
        *few,
        event["prediction"].get("score"),
        event.get("latency_ms"),
        event["status"],
        {name: str(feature) for name, feature in event["features"].items()},
        event["segments"],
    )


def main() -> None:
    """Consume so many messages of the topic of predictions, from its beginning."""
    wanted, columns = int(sys.argv[1]), sys.argv[2]
    kafka, clickhouse = KafkaSettings.from_environment(), ClickHouseSettings.from_environment()
    client = connect(clickhouse)
    client.command(f"create database if not exists {clickhouse.raw_database}")
    client.database = clickhouse.raw_database
    definitions = ", ".join(f"{name} {type_}" for name, type_ in _COLUMNS[columns].items())
    client.command(
        f"create table plain_predictions ({definitions}) "
        "engine = MergeTree order by (model_name, predicted_at)"
    )
    consumer = Consumer(
        {
            **kafka.client_configuration(),
            "group.id": kafka.consumer_group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([kafka.predictions_topic])
    rows: list[tuple[Any, ...]] = []
    done = 0
    while done < wanted:
        for message in consumer.consume(min(_ROWS - len(rows), wanted - done - len(rows)), 1.0):
            value = message.value()
            if message.error() is None and value is not None:
                rows.append(row_of(value, columns))
        if len(rows) == _ROWS or done + len(rows) == wanted:
            client.insert("plain_predictions", rows, column_names=list(_COLUMNS[columns]))
            consumer.commit(asynchronous=False)
            done += len(rows)
            rows = []
    consumer.close()
    client.close()


if __name__ == "__main__":
    main()
