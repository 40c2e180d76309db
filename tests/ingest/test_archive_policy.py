"""The policy that is shipped allows what archive and erasure ask of S3, and no more than that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from driftline.settings import ArchiveSettings
from ingest.archive.object_store import ObjectStore
from ingest.erasure.operations import Erasure
from ingest.erasure.plan import Entity
from tests.ingest.archived_warehouse import Archived, archived_on, s3_server
from tests.ingest.conftest import Systems
from tests.ingest.test_archive import PREDICTIONS

POLICY = Path(__file__).parents[2] / "deploy" / "iam-policy.json"
# As in the policy: a reader puts their own.
BUCKET, PREFIX = "driftline-archive", "raw/"
# What each operation needs, and whether on the bucket or on an object.
NEEDED = {
    "ListObjectsV2": ("s3:ListBucket", ""),
    "ListObjectVersions": ("s3:ListBucketVersions", ""),
    "HeadObject": ("s3:GetObject", "/"),
    "GetObject": ("s3:GetObject", "/"),
    "PutObject": ("s3:PutObject", "/"),
    "DeleteObject": ("s3:DeleteObjectVersion", "/"),
}


@pytest.fixture
def archived(systems: Systems) -> Iterator[Archived]:
    with s3_server() as url:
        made = archived_on(systems, url)
        made.s3.create_bucket(Bucket=BUCKET)
        made.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        made.settings = ArchiveSettings(BUCKET, PREFIX)
        yield made


def granted() -> dict[str, list[str]]:
    """Give the resources of each action on S3."""
    found: dict[str, list[str]] = {}
    for statement in json.loads(POLICY.read_text())["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            if action.startswith("s3:"):
                assert statement["Effect"] == "Allow"
                assert "Condition" not in statement
                found.setdefault(action, []).append(statement["Resource"])
    return found


def test_policy_allows_what_archive_and_erasure_do_and_nothing_else(archived: Archived) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []
    archived.s3.meta.events.register(
        "before-parameter-build.s3.*",
        lambda params, model, **_: calls.append((model.name, dict(params))),
    )
    event = b'{"prediction_id": "p", "model_name": "m", "entity_id": "me"}'
    archived.land_messages(PREDICTIONS, {0: (b"p", event), 1: (None, b"{}")})
    archived.archive().run()
    archived.archive().verify()
    archived.archive().expire(before=date(2026, 10, 15))
    Erasure(
        archived.systems.client,
        Entity("m", "me"),
        raw_database=archived.systems.raw_database,
        database="none",
        store=ObjectStore(archived.s3, archived.settings),
        clock=archived.tick,
    ).run()
    archived.empty_the_warehouse()
    assert archived.archive().restore().rows == 2

    used = set()
    for operation, arguments in calls:
        action, separator = NEEDED[operation]
        used.add(action)
        resource = f"arn:aws:s3:::{arguments['Bucket']}{separator}{arguments.get('Key', '')}"
        assert any(fnmatchcase(resource, one) for one in granted()[action]), (operation, resource)
        # Without a version it would put a marker over the object itself.
        assert (operation == "DeleteObject") == ("VersionId" in arguments)
    assert used == granted().keys()
    for resources in granted().values():
        assert not any(fnmatchcase("arn:aws:s3:::other/raw/x", one) for one in resources)
        assert not any(fnmatchcase(f"arn:aws:s3:::{BUCKET}/x", one) for one in resources)
