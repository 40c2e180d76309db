"""The archive is killed while the bytes of an object are on their way to S3."""

from __future__ import annotations

import signal
import subprocess
import sys
from urllib.parse import urlsplit

import numpy as np
import pytest

from ingest.archive.operations import ArchiveReport
from ingest.offsets import PartitionId
from tests.ingest.archived_warehouse import Archived, archived_on
from tests.ingest.conftest import Systems
from tests.tcp_proxy import tcp_proxy

FIRST = PartitionId("cluster", "predictions", "id-1", 0)
SECOND = PartitionId("cluster", "predictions", "id-1", 1)

_DEADLINE = 60.0


@pytest.fixture
def archived(systems: Systems, s3_url: str) -> Archived:
    return archived_on(systems, s3_url)


def test_killed_in_the_middle_of_an_upload(archived: Archived, s3_url: str) -> None:
    values = np.random.default_rng(7)
    for partition in (FIRST, SECOND):
        # Bytes that zstd cannot make smaller: an object has nearly as many.
        archived.land_messages(
            partition, {offset: (None, values.bytes(600)) for offset in range(1000)}
        )
    before = archived.events()
    address = urlsplit(s3_url)
    with tcp_proxy((str(address.hostname), int(address.port or 0))) as proxy:
        # The upload of the second object, and therein the file's first bytes.
        proxy.stop_at = [b"predictions-1-0-999.parquet", b"PAR1"]
        proxy.stop_after = 300_000
        killed = subprocess.Popen(
            [sys.executable, "-m", "driftline", "archive", "run"],
            env={
                **archived.systems.process_environment(),
                "DRIFTLINE_ARCHIVE_URL": archived.settings.url,
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert proxy.has_stopped.wait(_DEADLINE)
            assert killed.poll() is None
        finally:
            killed.kill()
        assert killed.wait(_DEADLINE) == -signal.SIGKILL
        assert proxy.has_hung_up.wait(_DEADLINE)
    # Half of 600 kB had gone to S3, which has made no object of it.
    interrupted = archived.objects()
    assert [key.rpartition("/")[2] for key in interrupted] == ["predictions-0-0-999.parquet"]
    assert archived.manifest() == [
        (next(iter(interrupted)).removeprefix(archived.settings.prefix), 1000)
    ]
    unfinished = archived.archive().verify()
    (problem,) = unfinished.problems
    assert "predictions[1]" in problem
    assert "1,000 rows are in no object: driftline archive run" in problem
    assert (unfinished.objects, unfinished.strays) == (1, [])

    completed = archived.archive().run()
    assert (completed.objects, completed.rows) == (1, 1000)
    objects = archived.objects()
    assert {key: objects[key] for key in interrupted} == interrupted
    assert len(objects) == len(archived.manifest()) == 2
    assert all(len(content) > 600_000 for content in objects.values())
    sound = archived.archive().verify()
    assert (sound.objects, sound.rows) == (2, 2000)
    assert sound.problems == sound.gaps == sound.strays == []
    assert archived.archive().run() == ArchiveReport()
    assert archived.objects() == objects

    # What an uninterrupted run would have written, byte for byte.
    archived.settings = type(archived.settings)(archived.settings.bucket, "uninterrupted/")
    archived.systems.client.command(
        f"truncate table {archived.systems.raw_database}.archive_manifest"
    )
    archived.archive().run()
    again = archived.objects()
    for key, content in objects.items():
        assert again[key.replace("some/prefix/", "uninterrupted/")] == content
    archived.empty_the_warehouse()
    archived.archive().restore()
    assert archived.events() == before
