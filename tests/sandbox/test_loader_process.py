"""The loader of the demo as seen from the replay: it ends, or stands still, and one is told."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from sandbox.kafka_broker import start_mock_broker
from sandbox.loader_process import LoaderProcess, LoaderProcessError

SYSTEM_VARIABLES = ("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_")


def test_wait_says_where_the_log_is_when_the_loader_has_ended(tmp_path: Path) -> None:
    owner, _, port = start_mock_broker(["predictions", "labels"], set())
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(SYSTEM_VARIABLES)
    } | {
        "DRIFTLINE_HOME": str(tmp_path),
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "CLICKHOUSE_HOST": "127.0.0.1",
        "CLICKHOUSE_PORT": "not a number",
    }
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}"})
    producer.produce("predictions", b"{}")
    producer.flush(10)
    log = tmp_path / "logs" / "loader.log"
    with LoaderProcess(environment, log) as loader:
        loader.wait_until_behind_at_most(1)
        with pytest.raises(LoaderProcessError, match="ended with status 1") as raised:
            loader.wait_until_behind_at_most(0)
    assert str(log) in str(raised.value)
    assert "CLICKHOUSE_PORT" in log.read_text()
    assert not psutil.pid_exists(loader.pid)
    del owner
