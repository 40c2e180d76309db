"""Parquet objects on S3: written whole or not at all, checked by size and SHA-256."""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from driftline.aws import aws_client
from driftline.settings import ArchiveSettings
from ingest.archive.ranges import ArchivedObject, EventRange
from ingest.offsets import OffsetRange

_RIGHTS = "s3:ListBucket, s3:GetObject and s3:PutObject"
_PIECE_BYTES = 1024 * 1024
_ROW_COUNT = "driftline-row-count"
# The SHA-256 of the object that stood under the same key before rows of it were erased.
_REPLACES = "driftline-replaces"


class ArchiveError(Exception):
    """The archive cannot be written or read. The message names the object and the remedy."""


class BadObjectError(ArchiveError):
    """An object is missing or is not what the manifest says."""


class ReplacedObjectError(BadObjectError):
    """An object is what an erasure made of it, and the manifest does not know yet."""


class S3(Protocol):
    """The part of boto3's S3 client that is used."""

    def put_object(self, **arguments: Any) -> Any: ...  # noqa: D102
    def head_object(self, **arguments: Any) -> Any: ...  # noqa: D102
    def get_object(self, **arguments: Any) -> Any: ...  # noqa: D102
    def delete_object(self, **arguments: Any) -> Any: ...  # noqa: D102
    def get_paginator(self, operation_name: Any, /) -> Any: ...  # noqa: D102


def connect_s3(environment: Mapping[str, str] = os.environ) -> S3:
    """Give boto3's client of S3; raises SettingsError where boto3 finds the environment wrong."""
    client: S3 = aws_client(
        "s3",
        environment,
        read_timeout=60,
        # An endpoint of one's own seldom has a name for each bucket.
        own_endpoint={"s3": {"addressing_style": "path"}},
    )
    return client


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file of events on the local disk."""

    path: Path
    row_count: int
    byte_count: int
    sha256: str


class ObjectStore:
    """The objects of one archive; every method raises ArchiveError where S3 fails."""

    def __init__(self, client: S3, settings: ArchiveSettings) -> None:
        self._client = client
        self._settings = settings

    @property
    def url(self) -> str:
        """The archive's address."""
        return self._settings.url

    def check_access(self) -> None:
        """Raise ArchiveError where the bucket cannot be listed."""
        with self._explained("listing"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                **self._below(""), PaginationConfig={"MaxItems": 1}
            )
            for _ in pages:
                pass

    def upload(
        self, file: ParquetFile, rows: EventRange, *, replaced: ArchivedObject | None = None
    ) -> ArchivedObject:
        """Write a file as the object of a range, and ask S3 what it has.

        `replaced` is what stood there before: the new object says so, for `successor`.
        """
        metadata = {_ROW_COUNT: str(file.row_count)}
        if replaced is not None:
            metadata[_REPLACES] = replaced.sha256
        stored = ArchivedObject(rows, file.row_count, file.byte_count, file.sha256)
        with self._explained(f"upload of {stored.key}"), file.path.open("rb") as body:
            self._client.put_object(
                **self._at(stored.key),
                Body=body,
                ContentType="application/vnd.apache.parquet",
                # S3 refuses the object where the bytes that arrive have another hash.
                ChecksumSHA256=b64encode(bytes.fromhex(file.sha256)).decode(),
                Metadata=metadata,
            )
        self.check(stored)
        return stored

    def successor(self, stored: ArchivedObject) -> ArchivedObject:
        """Give the object that has replaced `stored`, by its own word; else `stored` itself.

        It is what an erasure leaves that was interrupted before the manifest heard of it.
        """
        found = self._head(stored.key)
        if found is None or found["Metadata"].get(_REPLACES) != stored.sha256:
            return stored
        return self.described(stored.range)

    def delete_earlier_versions(self, key: str) -> int:
        """Delete what a versioned bucket has beside the current object of a key; give how many."""
        from botocore.exceptions import ClientError

        needed = "s3:ListBucketVersions and s3:DeleteObjectVersion"
        deleted = 0
        with self._explained(f"deletion of the earlier versions of {key}", needed):
            pages = self._client.get_paginator("list_object_versions").paginate(**self._below(key))
            try:
                for page in pages:
                    for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                        if entry["Key"] == self._settings.prefix + key and not entry["IsLatest"]:
                            self._client.delete_object(
                                **self._at(key), VersionId=entry["VersionId"]
                            )
                            deleted += 1
            except ClientError as error:
                # An endpoint of another maker that knows no versions has none.
                if error.response["Error"]["Code"] != "NotImplemented":
                    raise
        return deleted

    def check(self, stored: ArchivedObject) -> None:
        """Raise BadObjectError unless S3 has the object with this size and SHA-256.

        An endpoint that keeps no SHA-256 sends the object's bytes, and they are hashed here.
        """
        found = self._head(stored.key)
        if found is None:
            raise BadObjectError(f"object {self._named(stored.key)} is missing")
        if found["ContentLength"] != stored.byte_count:
            raise self._other(
                stored,
                f"{found['ContentLength']:,} bytes, the manifest says {stored.byte_count:,}",
            )
        self._compare(stored, self._sha256(stored.key, found))

    @contextmanager
    def downloaded(self, stored: ArchivedObject) -> Iterator[ParquetFile]:
        """Give an object as a local file whose bytes, rows and offsets are what they should be.

        Raises BadObjectError otherwise. The file is gone after the block.
        """
        with TemporaryDirectory(prefix="driftline-archive-") as folder:
            path = Path(folder) / "object.parquet"
            digest = hashlib.sha256()
            byte_count = 0
            with path.open("wb") as file:
                for piece in self._pieces(stored.key):
                    digest.update(piece)
                    byte_count += file.write(piece)
            if byte_count != stored.byte_count:
                raise self._other(
                    stored, f"{byte_count:,} bytes, the manifest says {stored.byte_count:,}"
                )
            self._compare(stored, digest.hexdigest())
            self._check_content(stored, path)
            yield ParquetFile(path, stored.row_count, byte_count, stored.sha256)

    def ranges(self) -> Iterator[EventRange]:
        """Give the ranges of all objects below the archive's prefix."""
        with self._explained("listing"):
            for page in self._client.get_paginator("list_objects_v2").paginate(**self._below("")):
                for entry in page.get("Contents", []):
                    found = EventRange.from_key(entry["Key"][len(self._settings.prefix) :])
                    if found is not None:
                        yield found

    def described(self, rows: EventRange) -> ArchivedObject:
        """Give what the object of a range says of itself; raises BadObjectError."""
        found = self._head(rows.key)
        if found is None:
            raise BadObjectError(f"object {self._named(rows.key)} is missing")
        try:
            row_count = int(found["Metadata"][_ROW_COUNT])
        except (KeyError, ValueError):
            raise BadObjectError(
                f"object {self._named(rows.key)} does not say how many rows it has: driftline "
                f"did not write it, or its metadata {_ROW_COUNT} was lost when it was copied"
            ) from None
        return ArchivedObject(
            rows,
            row_count,
            int(found["ContentLength"]),
            self._sha256(rows.key, found),
        )

    def _compare(self, stored: ArchivedObject, sha256: str) -> None:
        if sha256 != stored.sha256:
            raise self._other(stored, f"SHA-256 {sha256}, the manifest says {stored.sha256}")

    def _other(self, stored: ArchivedObject, found: str) -> BadObjectError:
        """Give the error for an object that is not what the manifest says."""
        head = self._head(stored.key)
        if head is not None and head["Metadata"].get(_REPLACES) == stored.sha256:
            return ReplacedObjectError(
                f"object {self._named(stored.key)} was rewritten by an erasure that did not end: "
                "run driftline erase for the same entity once more"
            )
        return BadObjectError(f"object {self._named(stored.key)} has {found}")

    def _check_content(self, stored: ArchivedObject, path: Path) -> None:
        try:
            with pq.ParquetFile(path) as parquet:
                row_count = parquet.metadata.num_rows
                offsets = parquet.read(["offset"]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise BadObjectError(
                f"object {self._named(stored.key)} cannot be read as Parquet: {error}"
            ) from error
        found = OffsetRange(offsets[0].as_py(), offsets[-1].as_py()) if row_count else None
        if row_count != stored.row_count or found != stored.range.offsets:
            raise BadObjectError(
                f"object {self._named(stored.key)} has {row_count:,} rows at offsets {found}, the "
                f"manifest says {stored.row_count:,} at {stored.range.offsets}"
            )

    def _head(self, key: str) -> Mapping[str, Any] | None:
        from botocore.exceptions import ClientError

        with self._explained(f"check of {key}"):
            try:
                found: Mapping[str, Any] = self._client.head_object(
                    **self._at(key), ChecksumMode="ENABLED"
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise
        return found

    def _sha256(self, key: str, head: Mapping[str, Any]) -> str:
        of_store: str | None = head.get("ChecksumSHA256")
        # One with a dash is of the parts of an upload (of a copied object), not of the whole.
        if of_store is not None and "-" not in of_store:
            return b64decode(of_store).hex()
        digest = hashlib.sha256()
        for piece in self._pieces(key):
            digest.update(piece)
        return digest.hexdigest()

    def _pieces(self, key: str) -> Iterator[bytes]:
        from botocore.exceptions import ClientError

        with self._explained(f"download of {key}"):
            try:
                body = self._client.get_object(**self._at(key))["Body"]
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NotFound"):
                    raise BadObjectError(f"object {self._named(key)} is missing") from None
                raise
            yield from body.iter_chunks(_PIECE_BYTES)

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._settings.bucket, "Key": self._settings.prefix + key}

    def _below(self, key: str) -> dict[str, str]:
        return {"Bucket": self._settings.bucket, "Prefix": self._settings.prefix + key}

    def _named(self, key: str) -> str:
        return f"s3://{self._settings.bucket}/{self._settings.prefix}{key}"

    @contextmanager
    def _explained(self, doing: str, needed: str = _RIGHTS) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response["Error"].get("Code", "")
            remedy = {
                "NoSuchBucket": f": create the bucket {self._settings.bucket}, or correct "
                "DRIFTLINE_ARCHIVE_URL",
                "AccessDenied": f": allow {needed} on it",
                "403": f": allow {needed} on it",
            }.get(code, "")
            raise ArchiveError(f"{self.url}: {doing}: {error}{remedy}") from error
        except BotoCoreError as error:
            raise ArchiveError(f"{self.url}: {doing}: {error}") from error
