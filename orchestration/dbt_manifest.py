"""The manifest of the dbt project: made by `dbt parse` when it is missing or out of date."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftline import settings
from driftline.dbt_command import dbt_command, dbt_environment

Manifest = dict[str, Any]

# Beside the files, these are what the manifest says relations are called.
_NAMING_VARIABLES = (
    *("DRIFTLINE_TARGET", "DRIFTLINE_CONFIGURATION"),
    *("CLICKHOUSE_DATABASE", "CLICKHOUSE_RAW_DATABASE", "CLICKHOUSE_CLUSTER"),
)
_SOURCES = ("models", "macros", "tests")
_PARSE_SECONDS = 300


class ManifestError(RuntimeError):
    """dbt cannot parse the project. The message has dbt's own words."""


def dagster_dbt_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of the dbt that Dagster starts.

    Its artefacts are apart from those of `driftline dbt`, so that neither reads what the other
    is writing.
    """
    folder = settings.home(environment) / "dagster" / "dbt"
    return {
        **dbt_environment(environment),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "DBT_LOG_FORMAT": "json",
        "DBT_USE_COLORS": "false",
    }


def read_manifest(environment: Mapping[str, str]) -> Manifest:
    """Give the manifest of the project as it is now; parse it first where that is needed.

    Parsing takes some ten seconds, and needs no connection. Raises ManifestError with dbt's
    message for a project that does not parse, SettingsError for a wrong variable.
    """
    variables = dagster_dbt_environment(environment)
    folder = settings.home(environment) / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"manifest-{_fingerprint(variables)}.json"
    with _locked(folder / "manifest.lock"):
        if not path.exists():
            _parse(variables, path)
            for old in folder.glob("manifest-*.json"):
                if old != path:
                    old.unlink()
    manifest: Manifest = json.loads(path.read_text())
    attach_singular_tests(manifest)
    return manifest


def attach_singular_tests(manifest: Manifest) -> None:
    """Say which node a test of several is about, where dbt does not: the one furthest down.

    dbt knows this of generic tests only; without it such a test is no check of any asset.
    """
    for node in manifest["nodes"].values():
        parents = node.get("depends_on", {}).get("nodes", [])
        if node["resource_type"] != "test" or node.get("attached_node") or len(parents) < 2:
            continue
        last = [
            parent
            for parent in parents
            if not any(parent in _ancestors(manifest, other) for other in parents)
        ]
        node["attached_node"] = min(last)


def _ancestors(manifest: Manifest, unique_id: str) -> set[str]:
    found: set[str] = set()
    waiting = list(manifest["parent_map"].get(unique_id, []))
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += manifest["parent_map"].get(one, [])
    return found


def _parse(variables: Mapping[str, str], path: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            dbt_command(["--quiet", "parse"]),
            env={**variables, "DBT_LOG_FORMAT": "text"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PARSE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ManifestError(f"dbt parse took more than {_PARSE_SECONDS} seconds") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise ManifestError(f"dbt cannot parse the project (try: driftline dbt parse):\n{said}")
    # Copied, since every later run of dbt writes its own over the one in the target folder.
    unfinished = path.with_suffix(".part")
    shutil.copy(Path(variables["DBT_TARGET_PATH"]) / "manifest.json", unfinished)
    unfinished.replace(path)


def _fingerprint(variables: Mapping[str, str]) -> str:
    project = Path(variables["DBT_PROJECT_DIR"])
    seeds = project / (variables.get("DRIFTLINE_CONFIGURATION") or "seeds")
    files = [project / "dbt_project.yml", Path(variables["DBT_PROFILES_DIR"]) / "profiles.yml"]
    for folder in (*(project / name for name in _SOURCES), seeds):
        files += sorted(path for path in folder.rglob("*") if path.suffix in _READ_BY_DBT)
    digest = hashlib.sha256()
    for path in files:
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    for name in _NAMING_VARIABLES:
        digest.update(f"{name}={variables.get(name, '')}\n".encode())
    return digest.hexdigest()[:16]


_READ_BY_DBT = {".sql", ".py", ".yml", ".yaml", ".md", ".csv"}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def configuration_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the folder of the configuration seeds (models.csv and its like)."""
    project = Path(dbt_environment(environment)["DBT_PROJECT_DIR"])
    return project / (environment.get("DRIFTLINE_CONFIGURATION") or "seeds")
