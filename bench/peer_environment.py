"""Environments of their own for what a benchmark is compared with, made when first needed.

The project depends on none of them, and they may contradict each other's requirements.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driftline.settings import home

_PROJECT = Path(__file__).parents[1]
_SECONDS = 600


class PeerFailedError(Exception):
    """A peer could not do its part. The message says why."""


def peer_python(name: str, requirements: Sequence[str]) -> Path | None:
    """Give an interpreter that has `requirements`; None where they cannot be installed."""
    folder = home() / "bench" / name
    python = folder / "bin" / "python"
    stamp = folder / ".requirements"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    uv = Path(sys.executable).with_name("uv")
    try:
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True
        )
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", python, *requirements],
            check=True,
            capture_output=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    stamp.write_text(wanted)
    return python


def run_peer(python: Path, module: str, *arguments: str, seconds: float = _SECONDS) -> Any:
    """Run a module of this project under a peer's interpreter; give the JSON of its last line.

    The module may import only what the peer has, and the standard library. Raises PeerFailedError.
    """
    try:
        done = subprocess.run(
            [python, "-m", module, *arguments],
            cwd=_PROJECT,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise PeerFailedError(f"{module} took more than {seconds:.0f} s") from None
    if done.returncode != 0:
        raise PeerFailedError(f"{module} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
