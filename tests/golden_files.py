"""Text that is compared with a file of the repository, so that a change of it is seen in review.

`DRIFTLINE_WRITE_GOLDEN=1 pytest …` writes the files anew.
"""

from __future__ import annotations

import os
from pathlib import Path


def assert_golden(found: str, file: Path) -> None:
    """Compare text with a file, or write the file where the environment asks for it."""
    if os.environ.get("DRIFTLINE_WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(found)
    assert found == file.read_text()
