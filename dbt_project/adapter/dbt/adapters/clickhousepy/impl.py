"""The adapter: everything of dbt-clickhouse's, and a way to run a Python model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from dbt.adapters.base.impl import PythonJobHelper
from dbt.adapters.clickhouse.impl import ClickHouseAdapter
from dbt.adapters.clickhousepy.connections import ClickHousePyConnectionManager
from dbt.adapters.clickhousepy.python_job import InProcessJob
from dbt.adapters.contracts.connection import AdapterResponse


class ClickHousePyAdapter(ClickHouseAdapter):
    """dbt-clickhouse, plus Python models run in the dbt process.

    The name is part of the protocol: dbt finds the package of a Python model's adapter by
    cutting `Adapter` off the class name and lower-casing the rest.
    """

    ConnectionManager = ClickHousePyConnectionManager

    @property
    def python_submission_helpers(self) -> dict[str, type[PythonJobHelper]]:
        """Give the ways to run a Python model: in this process, and no other."""
        # dbt calls what it finds here with the model and the credentials; the job also wants to
        # know where the model's file is, to name its lines.
        root = Path(getattr(self.config, "project_root", ""))
        helper = partial(InProcessJob, project_root=root)
        return {"in_process": cast("type[PythonJobHelper]", helper)}

    @property
    def default_python_submission_method(self) -> str:
        """Name the way taken when a model's config has no `submission_method`."""
        return "in_process"

    def generate_python_submission_response(self, submission_result: int) -> AdapterResponse:
        """Tell dbt how many rows a job wrote."""
        return AdapterResponse(_message=f"OK {submission_result}", rows_affected=submission_result)
