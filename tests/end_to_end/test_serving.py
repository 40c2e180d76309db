"""`driftline up`: everything is served until Ctrl-C, and then nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.end_to_end.finished_demo import clean_environment, processes_of

pytestmark = pytest.mark.slow
_START_DEADLINE, _STOP_DEADLINE = 300.0, 90.0


def test_up_serves_both_pages_until_interrupted_and_leaves_nothing(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "up.log"
    command = [sys.executable, "-m", "driftline", "up"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--dagster-port", "0", "--dashboard-port", "0"],
            env={**clean_environment(), "DRIFTLINE_HOME": str(home), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches a whole group of processes, as in a terminal.
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_DEADLINE
        while "Ctrl-C" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        addresses = dict(
            re.findall(r"(dashboard|dagster): (http://127\.0\.0\.1:\d+/)", log.read_text())
        )
        for page, word in (("dashboard", b"driftline"), ("dagster", b"Dagster")):
            with urllib.request.urlopen(addresses[page], timeout=30) as answer:  # noqa: S310
                assert answer.status == 200
                assert word.lower() in answer.read().lower()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(_STOP_DEADLINE) == 0, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert processes_of(home) == []
