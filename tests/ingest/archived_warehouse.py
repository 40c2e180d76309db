"""A raw database, a bucket on S3 and the archive of the one in the other, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from driftline.settings import ArchiveSettings
from ingest.archive.manifest import Manifest
from ingest.archive.object_store import ObjectStore
from ingest.archive.operations import Archive
from ingest.batches import Batch
from ingest.landing import ClickHouseSink
from ingest.messages import MessageHeaders, message_block
from ingest.offsets import PartitionId
from ingest.raw_tables import PREDICTION_EVENTS, create_raw_tables
from tests.ingest.conftest import Systems

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = date(2026, 9, 30)
NEXT_DAY = date(2026, 10, 1)

EVENTS = """
    select cluster, topic, topic_id, partition, offset, kafka_timestamp, hex(key), isNull(key),
        arrayMap(header -> (hex(header.1), hex(header.2), isNull(header.2)), headers),
        hex(value), isNull(value), batch_date
    from raw.{table} order by cluster, topic, topic_id, partition, offset
"""

ODD_KEYS: list[bytes | None] = [None, b"", b"key", b"\xff\x00\xfe", "schlüssel".encode()]
ODD_VALUES: list[bytes | None] = [None, b"", b'{"a": 1}', b"\xc3\x28\x00\n", b"\x00" * 7]
ODD_HEADERS: list[MessageHeaders] = [
    (),
    (("ce_id", b"1"), ("ce_id", None), ("", b"")),
    (("bytes", b"\xff\xfe\x00"),),
]


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's S3 in this process; give its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@dataclass
class Archived:
    """A raw database, a bucket of its own and the archive of the one in the other."""

    systems: Systems
    s3: Any
    settings: ArchiveSettings
    now: datetime = NOW

    def archive(self, **options: Any) -> Archive:
        return Archive(
            self.systems.client,
            ObjectStore(self.s3, self.settings),
            self.systems.raw_database,
            **{"clock": self.tick, **options},
        )

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def land(
        self,
        partition: PartitionId,
        offsets: range | list[int],
        day: date = DAY,
        value: bytes = b"",
        table: str = PREDICTION_EVENTS,
    ) -> None:
        """Land a batch of odd bytes, unless a value is given."""
        messages = {
            offset: (
                ODD_KEYS[offset % len(ODD_KEYS)],
                b"%s%d" % (value, offset) if value else ODD_VALUES[offset // 5 % len(ODD_VALUES)],
            )
            for offset in offsets
        }
        self.land_messages(partition, messages, day, table)

    def land_messages(
        self,
        partition: PartitionId,
        messages: Mapping[int, tuple[bytes | None, bytes | None]],
        day: date = DAY,
        table: str = PREDICTION_EVENTS,
    ) -> None:
        """Land keys and values by offset as one batch, as the loader does."""
        sink = ClickHouseSink(
            self.systems.client, self.systems.raw_database, {partition.topic: table}
        )
        batch = Batch(
            partition=partition,
            batch_date=day,
            blocks=(
                message_block(
                    offsets=list(messages),
                    timestamps=[1_790_000_000_000 + offset for offset in messages],
                    keys=[key for key, _ in messages.values()],
                    headers=[ODD_HEADERS[offset % len(ODD_HEADERS)] for offset in messages],
                    values=[value for _, value in messages.values()],
                ),
            ),
        )
        sink.insert(batch, f"{batch.token}/{day}")

    def last(self, partition: PartitionId, table: str = PREDICTION_EVENTS) -> int | None:
        return ClickHouseSink(
            self.systems.client, self.systems.raw_database, {partition.topic: table}
        ).landed_last(partition)

    def events(self, table: str = PREDICTION_EVENTS) -> list[tuple[Any, ...]]:
        return self.systems.rows(EVENTS.format(table=table))

    def objects(self) -> dict[str, bytes]:
        listed = self.s3.list_objects_v2(Bucket=self.settings.bucket).get("Contents", [])
        return {
            entry["Key"]: self.s3.get_object(Bucket=self.settings.bucket, Key=entry["Key"])[
                "Body"
            ].read()
            for entry in listed
        }

    def manifest(self) -> list[tuple[str, int]]:
        found = Manifest(self.systems.client, self.systems.raw_database).objects()
        return [(each.key, each.row_count) for each in found]

    def empty_the_warehouse(self) -> None:
        self.systems.client.command(f"drop database {self.systems.raw_database} sync")
        create_raw_tables(self.systems.client, self.systems.raw_database)


def archived_on(systems: Systems, s3_url: str) -> Archived:
    """Make an empty bucket and empty raw tables."""
    s3 = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    bucket = systems.raw_database.replace("_", "-")
    s3.create_bucket(Bucket=bucket)
    create_raw_tables(systems.client, systems.raw_database)
    return Archived(systems, s3, ArchiveSettings(bucket, "some/prefix/"))
