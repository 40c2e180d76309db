"""The jars that a pom.xml names, fetched by Maven once: `python -m tests.kafka.jars`.

They are kept in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache`, below `driftline/jars`),
under a name made of the pom's own bytes. So they survive `make clean` and serve every clone, and
another version in a pom is another folder: nothing there is ever stale.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

KAFKA_POM = Path(__file__).with_name("pom.xml")

_FETCH_SECONDS = 600


class JarsUnavailableError(Exception):
    """Java or the jars cannot be had. The message says what to install."""


def java() -> str:
    """Give the path of the Java runtime; raises JarsUnavailableError where there is none."""
    found = shutil.which("java")
    if found is None:
        raise JarsUnavailableError(
            "no Java runtime: install 17 or newer (Debian: apt-get install openjdk-17-jre-headless)"
        )
    return found


def jars(pom: Path = KAFKA_POM) -> Path:
    """Give the folder with the jars that `pom` names, fetching them where they are missing.

    Two processes that ask at once fetch once. Raises JarsUnavailableError where Maven is missing,
    or cannot fetch them.
    """
    folder = _cache() / f"{pom.parent.name}-{sha256(pom.read_bytes()).hexdigest()[:16]}"
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise JarsUnavailableError(
            f"the jars of {pom} are not fetched yet and there is no Maven to fetch them with "
            "(Debian: apt-get install maven)"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(maven, pom, folder)
    return folder


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "driftline" / "jars"


def _fetch(maven: str, pom: Path, folder: Path) -> None:
    # Beside its place, and moved there when complete: half a folder is never taken for a whole one.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as part:
        command = [maven, "--batch-mode", "--quiet", "--file", str(pom)]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={part}/jars"]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False
        )
        fetched = Path(part) / "jars"
        if ended.returncode != 0 or not any(fetched.glob("*.jar")):
            raise JarsUnavailableError(
                f"Maven could not fetch the jars of {pom}:\n{ended.stdout}{ended.stderr}"
            )
        fetched.rename(folder)


def main() -> None:
    """Fetch the jars of the poms named, Apache Kafka's where none is; print where they are."""
    for pom in [Path(name) for name in sys.argv[1:]] or [KAFKA_POM]:
        try:
            folder = jars(pom)
        except JarsUnavailableError as error:
            raise SystemExit(f"error: {error}") from None
        sys.stdout.write(f"{pom}: {len(list(folder.glob('*.jar')))} jars in {folder}\n")


if __name__ == "__main__":
    main()
