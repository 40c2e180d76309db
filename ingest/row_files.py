"""Files of rows, on disk or on S3: found, opened as a stream, hashed, and their faults explained.

Nothing here holds more of a file than a buffer. An object on S3 is read in ranges, each of which
S3 refuses where the object is no longer the one that was found.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from hashlib import _Hash

    from ingest.archive.object_store import S3

RowFormat = Literal["csv", "parquet", "jsonl"]

# Bytes of one request to S3, of one read of a column of Parquet, and of one block of CSV.
BLOCK_BYTES = 4 * 1024 * 1024

_FORMATS: dict[str, RowFormat] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_SHOWN_FAULTS = 10


class RowFileError(ValueError):
    """A file cannot be found or read, or rows of it are wrong; the message names the remedy."""


class Stored(Protocol):
    """Where the bytes of a file are."""

    @property
    def byte_count(self) -> int:
        """How many there are."""

    def open(self) -> io.RawIOBase:
        """Open them for reading and seeking; raises RowFileError where they have changed."""


@dataclass(frozen=True)
class RowFile:
    """A CSV, Parquet or JSONL file. `location` is as a person wrote it, `name` its last part."""

    location: str
    name: str
    format: RowFormat
    compression: str | None
    stored: Stored = field(repr=False)

    @property
    def byte_count(self) -> int:
        """How many bytes are stored, compressed ones as they are."""
        return self.stored.byte_count

    @contextmanager
    def stream(
        self,
        digest: _Hash | None = None,
        on_bytes: Callable[[int], None] = lambda done: None,  # noqa: ARG005
    ) -> Iterator[io.BufferedIOBase]:
        """Open the content as a stream of bytes, decompressed.

        All that is read goes into `digest`. `on_bytes` gets how many stored bytes were read.
        Raises RowFileError where the content cannot be read.
        """
        with self._explained(), self.stored.open() as stored:
            source: Any = stored
            if self.compression is not None:
                buffered = io.BufferedReader(stored, BLOCK_BYTES)
                source = pa.CompressedInputStream(pa.PythonFile(buffered, "r"), self.compression)
            tapped = _Tap(source, digest, lambda: on_bytes(stored.tell()))
            with io.BufferedReader(tapped, BLOCK_BYTES) as content:
                yield content

    @contextmanager
    def random_access(self) -> Iterator[pa.PythonFile]:
        """Open the stored bytes for Arrow, which seeks; raises RowFileError as `stream` does."""
        with self._explained(), self.stored.open() as stored:
            yield pa.PythonFile(stored, "r")

    def add_to(self, digest: _Hash) -> None:
        """Add the content to a digest; raises RowFileError where it cannot be read."""
        with self.stream(digest) as content:
            while content.read(BLOCK_BYTES):
                pass

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        # What a truncated or foreign file of gzip or zstd gives is an OSError too.
        except (pa.ArrowException, OSError) as error:
            faults = self._csv_faults() if self.format == "csv" else ""
            raise RowFileError(f"{self.location} cannot be read: {error}{faults}") from error

    def _csv_faults(self) -> str:
        """Name the rows with more or fewer cells than the header or wrong UTF-8: Arrow does not."""
        faults: list[str] = []
        count = 0
        try:
            with self.stored.open() as stored:
                source: Any = stored
                if self.compression is not None:
                    source = pa.CompressedInputStream(pa.PythonFile(stored, "r"), self.compression)
                content = io.BufferedReader(_Tap(source, None, lambda: None), BLOCK_BYTES)
                text = io.TextIOWrapper(content, "utf-8", errors="surrogateescape", newline="")
                rows = csv.reader(text)
                header = next(rows, [])
                for number, row in enumerate(rows, start=1):
                    fault = _fault_of(row, header)
                    count += bool(fault)
                    if fault and len(faults) < _SHOWN_FAULTS:
                        faults.append(f"row {number}: {fault}")
        except (pa.ArrowException, OSError, csv.Error, RowFileError):
            # Arrow's own message has to do.
            return ""
        more = f"\n… and {count - len(faults)} more" if count > len(faults) else ""
        return f"; {count} rows are wrong\n" + "\n".join(faults) + more if faults else ""


def find_row_file(location: str | Path, connect_s3: Callable[[], S3] | None = None) -> RowFile:
    """Find a file on disk, or an object of S3 by its s3://bucket/key.

    The name ends in .csv, .parquet, .jsonl or .ndjson; CSV and JSONL may be compressed (.gz, .zst).
    `connect_s3` gives boto3's client, by default that of the environment. Raises RowFileError where
    there is no such file, it is empty or of another kind, and SettingsError where boto3 finds the
    environment wrong.
    """
    location = str(location)
    path = PurePosixPath(location)
    compression = _COMPRESSIONS.get(path.suffix.lower())
    inner = PurePosixPath(path.stem) if compression else path
    kind = _FORMATS.get(inner.suffix.lower())
    if kind is None or (kind == "parquet" and compression):
        raise RowFileError(
            f"{location} is neither .csv nor .parquet nor .jsonl (.csv.gz, .csv.zst, .jsonl.gz, "
            ".jsonl.zst): convert or rename it"
        )
    stored: Stored
    if location.startswith("s3://"):
        if connect_s3 is None:
            from ingest.archive.object_store import connect_s3 as connect_s3_of_environment

            connect_s3 = connect_s3_of_environment
        stored = _S3Object.found(location, connect_s3())
    else:
        stored = _DiskFile.found(Path(location))
    if not stored.byte_count:
        raise RowFileError(f"{location} is empty")
    return RowFile(location, path.name, kind, compression, stored)


def _fault_of(row: list[str], header: list[str]) -> str:
    if row and len(row) != len(header):
        return f"{len(row)} cells, where the header has {len(header)}"
    if any("\udc80" <= character <= "\udcff" for cell in row for character in cell):
        return "not UTF-8"
    return ""


class _Tap(io.RawIOBase):
    """Passes a stream on and sees all that is read."""

    def __init__(self, source: Any, digest: _Hash | None, on_read: Callable[[], None]) -> None:
        self._source = source
        self._digest = digest
        self._on_read = on_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        content = self._source.read(len(buffer))
        buffer[: len(content)] = content
        if self._digest is not None:
            self._digest.update(content)
        self._on_read()
        return len(content)


# -- on disk --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _DiskFile:
    path: Path
    byte_count: int
    state: tuple[int, int, int]

    @classmethod
    def found(cls, path: Path) -> _DiskFile:
        try:
            if path.is_dir():
                raise RowFileError(f"{path} is a folder: name a file in it")
            with path.open("rb", buffering=0) as file:
                state = _state(file)
        except FileNotFoundError:
            raise RowFileError(f"there is no file {path}") from None
        except OSError as error:
            raise RowFileError(f"{path} cannot be read: {error.strerror or error}") from error
        return cls(path, state[1], state)

    def open(self) -> io.RawIOBase:
        file = self.path.open("rb", buffering=0)
        if _state(file) != self.state:
            file.close()
            raise RowFileError(f"{self.path} changed while it was read: start again")
        return file


def _state(file: io.FileIO) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


# -- on S3 ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _S3Object:
    location: str
    bucket: str
    key: str
    client: S3 = field(repr=False)
    byte_count: int
    etag: str

    @classmethod
    def found(cls, location: str, client: S3) -> _S3Object:
        bucket, _, key = location.removeprefix("s3://").partition("/")
        if not bucket or not key:
            raise RowFileError(f"{location} is not of the form s3://bucket/key")
        with _s3_explained(location, bucket):
            # Not HEAD, whose failure does not say whether bucket or key is the wrong one. The body
            # is not read.
            answer = client.get_object(Bucket=bucket, Key=key)
            answer["Body"].close()
        return cls(location, bucket, key, client, int(answer["ContentLength"]), answer["ETag"])

    def open(self) -> io.RawIOBase:
        return _S3Reader(self)


class _S3Reader(io.RawIOBase):
    """Reads an object in ranges, one request a read."""

    def __init__(self, of: _S3Object) -> None:
        self._of = of
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._of.byte_count}
        self._position = max(0, start[whence] + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        wanted = min(len(buffer), self._of.byte_count - self._position)
        if wanted <= 0:
            return 0
        last = self._position + wanted - 1
        with _s3_explained(self._of.location, self._of.bucket):
            content = self._of.client.get_object(
                Bucket=self._of.bucket,
                Key=self._of.key,
                Range=f"bytes={self._position}-{last}",
                IfMatch=self._of.etag,
            )["Body"].read()
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


@contextmanager
def _s3_explained(location: str, bucket: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code = error.response["Error"].get("Code", "")
        explanation = {
            "NoSuchBucket": f"there is no bucket {bucket}",
            "NoSuchKey": f"the bucket {bucket} has no such object",
            "AccessDenied": "access is denied: allow s3:GetObject on it (and s3:ListBucket on "
            f"{bucket}, without which S3 says the same of an object that is not there)",
            "InvalidAccessKeyId": "S3 does not know the access key: set AWS_ACCESS_KEY_ID",
            "SignatureDoesNotMatch": "S3 refuses the signature: set AWS_SECRET_ACCESS_KEY",
            "PreconditionFailed": "it changed while it was read: start again",
        }.get(code, str(error))
        raise RowFileError(f"{location}: {explanation}") from error
    except (BotoCoreError, HTTPError) as error:
        raise RowFileError(f"{location}: {error}") from error
