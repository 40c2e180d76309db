"""Credentials: those of dbt-clickhouse, under the type name `clickhousepy`."""

from __future__ import annotations

from dataclasses import dataclass

from dbt.adapters.clickhouse.credentials import ClickHouseCredentials


@dataclass
class ClickHousePyCredentials(ClickHouseCredentials):
    """What a profile of `type: clickhousepy` holds: dbt-clickhouse's keys, and one more.

    `described_columns` is a file in which runs keep the columns of the queries that they described
    for contracts; nothing is kept unless it is given.
    """

    described_columns: str = ""

    @property
    def type(self) -> str:
        """Give the adapter's name, as written in profiles.yml."""
        return "clickhousepy"
