"""Events on disk while Kafka does not take them: none lost, none taken from the living."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.spill import (
    Record,
    Spill,
    SpillSettings,
    decode_record,
    encode_record,
    read_segment,
)
from tests.ingest.spilled import MIB, SMALL, Clock, bytes_of, files, key, record, spill


def drained(store: Spill) -> Iterator[bytes]:
    """Give the keys of all that there is to replay, as Replay would."""
    while (path := store.oldest()) is not None:
        for found in read_segment(path):
            assert found is not None
            yield found.key
        store.delete(path)


@given(
    st.builds(
        Record,
        st.binary(max_size=50),
        st.binary(max_size=300),
        st.lists(st.tuples(st.text("abc_-", max_size=10), st.binary(max_size=20)), max_size=5),
    )
)
def test_record_comes_back_as_it_was(given_: Record) -> None:
    assert decode_record(encode_record(given_)[8:]) == given_


@pytest.fixture(scope="module")
def three_records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("three")
    store = spill(folder)
    for number in range(3):
        assert not store.append([record(number, size=20)])
    store.close()
    (path,) = files(folder, "sealed")
    return folder, path.read_bytes()


def keys_read(path: Path, content: bytes) -> list[bytes | None]:
    path.write_bytes(content)
    return [found and found.key for found in read_segment(path)]


def test_tail_torn_at_any_byte_is_skipped_and_counted(
    three_records: tuple[Path, bytes], tmp_path: Path
) -> None:
    _, content = three_records
    whole = len(encode_record(record(0, size=20)))
    ends = [8 + whole * count for count in range(4)]
    assert ends[3] == len(content)
    for cut in range(len(content) + 1):
        intact = [key(number) for number in range(3) if ends[number + 1] <= cut]
        is_torn = cut not in (0, *ends)
        assert keys_read(tmp_path / "cut", content[:cut]) == [*intact, *([None] * is_torn)], cut


def test_damaged_record_does_not_cost_its_neighbours(
    three_records: tuple[Path, bytes], tmp_path: Path
) -> None:
    _, content = three_records
    whole = len(encode_record(record(0, size=20)))
    for place in range(8 + whole + 8, 8 + 2 * whole):
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        assert keys_read(tmp_path / "flipped", bytes(damaged)) == [key(0), None, key(2)]


def test_zeros_after_a_power_failure_count_once(
    three_records: tuple[Path, bytes], tmp_path: Path
) -> None:
    found = keys_read(tmp_path / "zeros", three_records[1] + bytes(5000))
    assert found == [key(0), key(1), key(2), None]


def test_segment_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"driftl99 and more")
    with pytest.raises(ValueError, match="this version"):
        list(read_segment(tmp_path / "other"))


def test_folder_never_exceeds_its_bound_whoever_writes(tmp_path: Path) -> None:
    writers = [spill(tmp_path) for _ in range(2)]
    refusals: Counter[str] = Counter()
    for number in range(200):
        refusals += writers[number % 2].append([record(number, size=100_000)])
        assert bytes_of(tmp_path) <= SMALL
    assert set(refusals) == {"spill_full"}
    assert bytes_of(tmp_path) > SMALL * 0.8
    for writer in writers:
        writer.close()


def test_full_folder_takes_events_again_once_a_segment_is_delivered(tmp_path: Path) -> None:
    clock = Clock()
    store = spill(tmp_path, clock=clock)
    number = 0
    while not store.append([record(number, size=100_000)]):
        number += 1
    oldest = store.oldest()
    assert oldest is not None
    store.delete(oldest)
    assert store.append([record(0)]) == {"spill_full": 1}  # not looked at again for each event
    clock.now += 1.1
    assert not store.append([record(0)])
    store.close()


def test_record_larger_than_a_segment_is_refused(tmp_path: Path) -> None:
    store = spill(tmp_path)
    assert store.append([record(1, size=2 * MIB)]) == {"spill_oversize": 1}
    assert not store.append([record(2)])
    assert list(drained(store)) == [key(2)]
    store.close()


def test_records_that_come_together_are_written_together(tmp_path: Path) -> None:
    writes: list[str] = []
    store = Spill(SpillSettings(tmp_path, 16 * MIB), "predictions", crash_point=writes.append)
    assert not store.append(record(number, size=1000) for number in range(1000))
    assert writes.count("after_write") <= 5
    assert list(drained(store)) == [key(number) for number in range(1000)]
    store.close()


def test_records_that_come_together_fill_segments_in_order(tmp_path: Path) -> None:
    store = spill(tmp_path)
    odd = [record(99, size=2 * MIB)]
    small = [record(number, size=100_000) for number in range(25)]
    assert store.append([*small[:5], *odd, *small[5:]]) == {"spill_oversize": 1}
    assert list(drained(store)) == [key(number) for number in range(25)]
    store.close()


def test_full_folder_counts_each_record_of_a_group(tmp_path: Path) -> None:
    store = spill(tmp_path)
    refused = store.append(record(number, size=10_000) for number in range(1000))
    kept = list(drained(store))
    assert refused == {"spill_full": 1000 - len(kept)}
    assert kept == [key(number) for number in range(len(kept))]
    assert len(kept) > 0.7 * SMALL / 10_000
    store.close()


def test_unusable_folder_is_a_reason_and_no_exception(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = spill(tmp_path / "file")
    store.tend()
    assert store.append([record(1)]) == {"spill_error": 1}
    assert store.oldest() is None
    store.close()


def test_too_small_a_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_bytes=1000 of a spill"):
        SpillSettings(tmp_path, 1000)


def test_folder_is_its_owners_only(tmp_path: Path) -> None:
    store = spill(tmp_path / "spill")
    store.append([record(1)])
    (segment,) = files(tmp_path / "spill", "open")
    assert segment.stat().st_mode & 0o077 == 0
    assert segment.parent.stat().st_mode & 0o077 == 0
    store.close()


def test_topic_cannot_leave_the_folder(tmp_path: Path) -> None:
    store = Spill(SpillSettings(tmp_path / "spill", SMALL), "../../elsewhere")
    assert not store.append([record(1)])
    assert [path.name for path in tmp_path.iterdir()] == ["spill"]
    assert len(files(tmp_path / "spill", "open")) == 1
    store.close()


def test_what_is_left_is_for_the_next_process_in_order(tmp_path: Path) -> None:
    first = spill(tmp_path)
    for number in range(30):
        assert not first.append([record(number, size=100_000)])
    first.close()
    second = spill(tmp_path)
    second.tend()
    assert list(drained(second)) == [key(number) for number in range(30)]
    second.close()
    assert bytes_of(tmp_path) == 0
    assert not files(tmp_path, "lock")


def test_segments_of_the_living_are_left_alone(tmp_path: Path) -> None:
    first, second = spill(tmp_path), spill(tmp_path)
    first.append([record(1)])
    first.oldest()  # seals it
    first.append([record(2)])
    second.tend()
    assert second.oldest() is None
    assert list(drained(first)) == [key(1), key(2)]
    first.close()
    second.close()


def test_segments_of_other_topics_are_left_alone(tmp_path: Path) -> None:
    first = spill(tmp_path)
    first.append([record(1)])
    first.close()
    other = Spill(SpillSettings(tmp_path, SMALL), "labels")
    other.tend()
    assert other.oldest() is None
    other.close()


def test_orphans_are_looked_for_while_running(tmp_path: Path) -> None:
    clock = Clock()
    second = spill(tmp_path, clock=clock)
    second.tend()
    first = spill(tmp_path)
    first.append([record(1)])
    first.close()
    second.tend()
    assert second.oldest() is None
    clock.now += 30
    second.tend()
    assert list(drained(second)) == [key(1)]
    second.close()


def test_forked_child_neither_writes_to_nor_frees_its_parents_segments(tmp_path: Path) -> None:
    parent = spill(tmp_path)
    parent.append([record(1)])
    (segment,) = files(tmp_path, "open")
    size = segment.stat().st_size
    child = os.fork()
    if child == 0:
        parent.forget()
        mine = spill(tmp_path)
        mine.tend()
        is_right = (
            mine.oldest() is None
            and not mine.append([record(2)])
            and segment.stat().st_size == size
        )
        os._exit(0 if is_right else 1)  # without closing: like kill -9
    assert os.waitpid(child, 0)[1] == 0
    other = spill(tmp_path)
    other.tend()
    assert list(drained(other)) == [key(2)]
    assert list(drained(parent)) == [key(1)]
    other.close()
    parent.close()


SHORT_WRITE = """
import resource, sys
from pathlib import Path
from ingest.spill import Record, Spill, SpillSettings, read_segment
settings = SpillSettings(sys.argv[1], 4 * 1024 * 1024)
spill = Spill(settings, "predictions", clock=iter(range(99)).__next__)
record = lambda number: Record(f"id-{number}".encode(), b"x" * 1000, [])
assert not spill.append([record(0)])
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
assert spill.append([record(1)]) == {"spill_error": 1}
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert not spill.append([record(2)])
print([found and found.key.decode() for found in read_segment(spill.oldest())])
"""


def test_disk_full_within_a_write_costs_that_write_only(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT_WRITE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "['id-0', 'id-2']"
