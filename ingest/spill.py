"""Events on disk while Kafka does not take them: bounded segment files, replayed later.

One folder serves any number of processes and topics::

    <folder>/lock                                    held while segments are opened or adopted
    <folder>/<topic>/<writer>.lock                   held by a process as long as it lives
    <folder>/<topic>/<time>-<token>-<writer>.open    the segment that it appends to
    <folder>/<topic>/<time>-<token>-<writer>.sealed  one that is complete

The locks are flock's: the kernel lets them go however a process ends, and a process id that comes
again means nothing. Segments whose writer's lock nobody holds are orphans: the next process that
looks renames them to its own.

A segment is a sequence of records: length and CRC-32 (both 32 bits, little-endian) of a body, and
the body. A write that was cut off fails one of them, and is skipped and counted.

What is durable when: records that come together are written by one `write`, at once, so they
survive their process (kill -9). `fsync` follows within a second, and when a segment is sealed, so a
power failure costs about a second. A segment is deleted only when the broker has acknowledged all
of it; a process that ends before that leads to its being sent again, with the same prediction ids,
of which the warehouse keeps one (docs/decisions/0005).

All of this is I/O: it belongs on a thread that no prediction waits for, and on one only.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import struct
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from confluent_kafka import KafkaError

from ingest.events import Headers

_log = logging.getLogger("driftline.events")

CRASH_POINTS = (
    "after_open",
    "after_write",
    "after_seal",
    "mid_adoption",
    "after_acknowledgement",
    "after_delete",
)

_MIB = 1024 * 1024
_MAGIC = b"driftl01"
_PAIR = struct.Struct("<II")
_SEGMENT_NAME = re.compile(r"(\d{15}-[0-9a-f]{8})-(\d+-[0-9a-f]{8})\.(?:open|sealed)")
_LOCK_NAME = re.compile(r"(\d+-[0-9a-f]{8})\.lock")

_SYNC_SECONDS = 1.0
_ADOPT_SECONDS = 30.0
# A full folder, or a disk that refuses, is tried again after this long.
_RETRY_SECONDS = 1.0
_LOCK_SECONDS = 0.5
# Each write lets go of the interpreter, and beside a thread that computes without a pause it comes
# back after 5 ms only: 200 writes a second.
_GROUP_BYTES = 512 * 1024

# What the broker would answer again.
_REFUSALS = frozenset(
    (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.RECORD_LIST_TOO_LARGE,
    )
)


def is_refusal(error: KafkaError) -> bool:
    """Say whether the broker refused the message itself, so that sending it again is vain."""
    return error.code() in _REFUSALS


@dataclass(frozen=True)
class SpillSettings:
    """Where events wait that Kafka does not take, and how many bytes all of them may have.

    `folder` is on a local disk (the locks are flock's), of this cluster's events only, and may be
    shared by the processes of one machine. `max_bytes` (at least 4 MiB) bounds the folder, whoever
    writes to it. Raises ValueError where it is less.
    """

    folder: str | os.PathLike[str]
    max_bytes: int = 1024 * _MIB

    def __post_init__(self) -> None:
        if self.max_bytes < 4 * _MIB:
            raise ValueError(f"max_bytes={self.max_bytes} of a spill is less than {4 * _MIB}")

    @property
    def segment_bytes(self) -> int:
        """How long a segment grows."""
        return min(max(self.max_bytes // 32, _MIB), 8 * _MIB)


class Record(NamedTuple):
    """One message for Kafka."""

    key: bytes
    value: bytes
    headers: Headers


def encode_record(record: Record) -> bytes:
    """Give a record as it stands in a segment."""
    parts = [b"", _PAIR.pack(len(record.key), len(record.headers)), record.key]
    for name, content in record.headers:
        encoded = name.encode()
        parts += (_PAIR.pack(len(encoded), len(content)), encoded, content)
    parts.append(record.value)
    body = b"".join(parts)
    return _PAIR.pack(len(body), zlib.crc32(body)) + body


def decode_record(body: bytes) -> Record:
    """Give the record of a body; it must be whole (its CRC was checked)."""
    key_length, header_count = _PAIR.unpack_from(body)
    position = _PAIR.size + key_length
    key = body[_PAIR.size : position]
    headers = []
    for _ in range(header_count):
        name_length, content_length = _PAIR.unpack_from(body, position)
        position += _PAIR.size + name_length
        name = body[position - name_length : position].decode()
        headers.append((name, body[position : position + content_length]))
        position += content_length
    return Record(key, body[position:], headers)


def read_segment(path: Path) -> Iterator[Record | None]:
    """Give the records of a segment in order, and None for one that is damaged or cut off.

    Raises OSError where it cannot be read, and ValueError where it is no segment of this version.
    """
    size = path.stat().st_size
    with path.open("rb") as segment:
        magic = segment.read(len(_MAGIC))
        if magic != _MAGIC[: len(magic)]:
            raise ValueError(f"{path} is not a segment that this version can read")
        if 0 < len(magic) < len(_MAGIC):
            yield None
        while frame := segment.read(_PAIR.size):
            length, checksum = _PAIR.unpack(frame) if len(frame) == _PAIR.size else (0, 0)
            # A power failure may leave zeros.
            if length == 0 or length > size - segment.tell():
                yield None
                return
            body = segment.read(length)
            yield decode_record(body) if zlib.crc32(body) == checksum else None


class Spill:
    """The segments of one logger in one process: appended to, adopted, given for replay.

    `crash_point` is called with each name of CRASH_POINTS, so that tests can stop a process exactly
    there.
    """

    def __init__(
        self,
        settings: SpillSettings,
        topic: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        crash_point: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._root = Path(settings.folder)
        # A topic's name may be anything here; Kafka has yet to refuse it.
        self._folder = self._root / f"topic={quote(topic, safe='')}"
        self.clock = clock
        self.crash_point = crash_point
        self._writer = ""
        self._lock_file: int | None = None
        self._file: int | None = None
        self._path = Path()
        self._size = 0
        self._is_synced = True
        self._sealed: deque[Path] = deque()
        self._next_sync = 0.0
        self._next_adoption = 0.0
        self._retry_at = 0.0
        self._refusal = ""

    def append(self, records: Iterable[Record]) -> Counter[str]:
        """Write records, as many at once as are small; give how many are not kept, by reason.

        The reasons: spill_full, spill_oversize (larger than a segment), spill_error (the disk).
        """
        refused: Counter[str] = Counter()
        group: list[bytes] = []
        size = 0
        for record in records:
            encoded = encode_record(record)
            if len(_MAGIC) + len(encoded) > self._settings.segment_bytes:
                refused["spill_oversize"] += 1
                continue
            if group and size + len(encoded) > _GROUP_BYTES:
                self._append_group(group, refused)
                group, size = [], 0
            group.append(encoded)
            size += len(encoded)
        if group:
            self._append_group(group, refused)
        return refused

    def _append_group(self, group: Sequence[bytes], refused: Counter[str]) -> None:
        reason = self._append_bytes(b"".join(group))
        if reason is not None:
            refused[reason] += len(group)

    def _append_bytes(self, encoded: bytes) -> str | None:
        if self._file is not None and self._size + len(encoded) > self._settings.segment_bytes:
            self._seal()
        if self._file is None:
            if self.clock() < self._retry_at:
                return self._refusal
            try:
                is_open = self._open()
            except OSError as error:
                return self._refuse("spill_error", error)
            if not is_open:
                return self._refuse("spill_full", f"it holds {self._settings.max_bytes} bytes")
        try:
            self._write(encoded)
        except OSError as error:
            return self._refuse("spill_error", error)
        self.crash_point("after_write")
        return None

    def tend(self) -> None:
        """Sync what was written and look for orphans, each when it is due."""
        now = self.clock()
        if now >= self._next_sync:
            self._next_sync = now + _SYNC_SECONDS
            self._sync()
        if now >= self._next_adoption:
            self._next_adoption = now + _ADOPT_SECONDS
            try:
                self._adopt()
            except OSError as error:
                _log.error("spill folder %s cannot be used: %s", self._root, error)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of this process is to be sent."""
        return not self._sealed and (self._file is None or not self._size)

    def oldest(self) -> Path | None:
        """Give the oldest segment, sealed for it if need be; None where there is none."""
        if not self._sealed and self._file is not None and self._size:
            self._seal()
        return self._sealed[0] if self._sealed else None

    def delete(self, path: Path) -> None:
        """Delete a segment of which all is delivered."""
        self._sealed.remove(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("segment %s is delivered but stays, and will be sent again: %s", path, error)
        self.crash_point("after_delete")

    def set_aside(self, path: Path, error: Exception) -> None:
        """Rename a segment that cannot be read, so that others are not held up by it."""
        self._sealed.remove(path)
        _log.error("segment %s is set aside as *.unreadable: %s", path, error)
        with suppress(OSError):
            path.rename(path.with_suffix(".unreadable"))

    def close(self) -> None:
        """Seal the open segment and let the lock go: what is left is for the next process."""
        if self._file is not None:
            self._seal()
            if not self._size:
                self.delete(self._sealed[-1])
        if self._lock_file is None:
            return
        if not self._sealed:
            with suppress(OSError), self._locked():
                self._lock_path(self._writer).unlink(missing_ok=True)
        self._unlock()

    def forget(self) -> None:
        """In a forked child: let go of the parent's files, which go on being the parent's."""
        # Closing the child's copy does not release the lock: the parent has it still.
        for file in (self._lock_file, self._file):
            if file is not None:
                with suppress(OSError):
                    os.close(file)
        self._lock_file = self._file = None
        self._sealed.clear()

    def _refuse(self, reason: str, error: object) -> str:
        self._refusal = reason
        self._retry_at = self.clock() + _RETRY_SECONDS
        _log.warning("spill folder %s takes no events: %s (%s)", self._root, error, reason)
        return reason

    def _open(self) -> bool:
        with self._locked():
            if self._used_bytes() + self._settings.segment_bytes > self._settings.max_bytes:
                return False
            self._become_writer()
            # Sorted by name, segments are in the order in which they were begun.
            stem = f"{time.time_ns() // 1_000_000:015d}-{secrets.token_hex(4)}-{self._writer}"
            path = self._folder / f"{stem}.open"
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._file, self._path, self._size = file, path, 0
        self._sync_folder()
        self.crash_point("after_open")
        return True

    def _used_bytes(self) -> int:
        """Count what the folder's segments occupy; one that is open, as if it were full already."""
        used = 0
        for folder in self._root.glob("topic=*"):
            for path in folder.iterdir():
                if path.suffix == ".open":
                    used += self._settings.segment_bytes
                elif path.suffix != ".lock":
                    with suppress(FileNotFoundError):  # another process has delivered it
                        used += path.stat().st_size
        return used

    def _write(self, encoded: bytes) -> None:
        file = self._file
        if file is None:
            raise ValueError("no segment is open")
        if self._size == 0:
            encoded = _MAGIC + encoded
        try:
            left = memoryview(encoded)
            while left:
                left = left[os.write(file, left) :]
        except OSError:
            try:
                os.ftruncate(file, self._size)
            except OSError:
                self._seal()  # nothing can be read behind a torn record
            raise
        self._size += len(encoded)
        self._is_synced = False

    def _sync(self) -> None:
        if self._file is None or self._is_synced:
            return
        self._is_synced = True
        try:
            os.fsync(self._file)
        except OSError as error:
            _log.error("segment %s may not survive a power failure: %s", self._path, error)

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _seal(self) -> None:
        self._sync()
        file, self._file = self._file, None
        path = self._path.with_suffix(".sealed")
        try:
            if file is not None:
                os.close(file)
            self._path.rename(path)
            self._sync_folder()
        except OSError as error:
            _log.error("segment %s is not sealed: %s", self._path, error)
            path = path if path.exists() else self._path
        self._sealed.append(path)
        self.crash_point("after_seal")

    def _adopt(self) -> None:
        """Make the segments of processes that are gone one's own."""
        with self._locked():
            names = sorted(path.name for path in self._folder.iterdir())
            segments = [found for name in names if (found := _SEGMENT_NAME.fullmatch(name))]
            locks = [found for name in names if (found := _LOCK_NAME.fullmatch(name))]
            writers = {found[2] for found in segments} | {found[1] for found in locks}
            adopted = []
            for writer in sorted(writers - {self._writer}):
                lock = os.open(self._lock_path(writer), os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # it lives
                else:
                    for segment in segments:
                        if segment[2] == writer:
                            self._become_writer()
                            path = self._folder / f"{segment[1]}-{self._writer}.sealed"
                            (self._folder / segment[0]).rename(path)
                            self.crash_point("mid_adoption")
                            adopted.append(path)
                    self._lock_path(writer).unlink(missing_ok=True)
                finally:
                    os.close(lock)
        if adopted:
            _log.warning("%d segments of other processes are sent from here", len(adopted))
            self._sealed = deque(sorted([*self._sealed, *adopted]))

    def _become_writer(self) -> None:
        if self._lock_file is not None:
            return
        self._writer = f"{os.getpid()}-{secrets.token_hex(4)}"
        lock = os.open(self._lock_path(self._writer), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lock_file = lock

    def _lock_path(self, writer: str) -> Path:
        return self._folder / f"{writer}.lock"

    def _unlock(self) -> None:
        if self._lock_file is not None:
            _release(self._lock_file)
        self._lock_file, self._writer = None, ""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from opening, adopting and deleting locks; raises OSError."""
        # Features may be personal data: the folder is its owner's only.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.005)
            yield
        finally:
            _release(lock)


def _release(lock: int) -> None:
    # Closing alone is not enough: a child that was forked meanwhile has a copy of the descriptor.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
