"""A Kafka broker for the sandbox: librdkafka's mock broker, in a process of its own.

It speaks the real protocol over TCP (producers, consumer groups, commits), in memory:

- it keeps about 5 MB a partition, four partitions a topic, and drops the oldest beyond that, so
  it passes events through and stores none;
- topics, offsets and consumer groups are gone when it stops. Each start has another cluster id,
  by which the loader tells the new offset 0 from the one it landed before.

A real broker is used instead wherever KAFKA_BOOTSTRAP_SERVERS is set.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from confluent_kafka import Producer

from sandbox.port_files import write_port

PARTITIONS = 4
"""Partitions of a topic: the mock broker's own default, which its client cannot change."""

_LOOPBACK = "127.0.0.1"
_METADATA_SECONDS = 10


def start_mock_broker(topics: list[str], used_cluster_ids: set[str]) -> tuple[Producer, str, int]:
    """Start a broker that has `topics` and a cluster id that is not among those used.

    Returns the producer, as long as which the broker lives; the cluster id; and the port on
    127.0.0.1.
    """
    rejected = []
    while True:
        owner = Producer(
            # The address is replaced by the mock broker's; log_level 4 drops the notice of it.
            {"bootstrap.servers": f"{_LOOPBACK}:0", "test.mock.num.brokers": 1, "log_level": 4}
        )
        metadata = owner.list_topics(timeout=_METADATA_SECONDS)
        cluster_id = str(metadata.cluster_id)
        if cluster_id not in used_cluster_ids:
            break
        # The id is made of a memory address, which can come again where addresses are not
        # randomised. Kept alive, this one holds its address, so the next has another.
        rejected.append(owner)
    for topic in topics:
        # Asking for a topic creates it.
        owner.list_topics(topic, timeout=_METADATA_SECONDS)
    return owner, cluster_id, next(iter(metadata.brokers.values())).port


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(prog="sandbox.kafka_broker")
    arguments.add_argument("--port-file", type=Path, required=True)
    arguments.add_argument("--used-cluster-ids", type=Path, required=True)
    arguments.add_argument("--topic", action="append", default=[], dest="topics")
    options = arguments.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ids: Path = options.used_cluster_ids
    used = set(ids.read_text().split()) if ids.exists() else set()
    owner, cluster_id, port = start_mock_broker(options.topics, used)
    with ids.open("a") as file:
        file.write(f"{cluster_id}\n")
    write_port(options.port_file, port)
    stop.wait()
    del owner


if __name__ == "__main__":
    main()
