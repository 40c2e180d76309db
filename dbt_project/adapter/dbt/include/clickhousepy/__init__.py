"""The dbt macros of the adapter: `table` and `incremental` for models written in Python."""

from pathlib import Path

PACKAGE_PATH = str(Path(__file__).parent)
