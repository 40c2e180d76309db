"""Credentials: those of dbt-clickhouse, under the type name `clickhousepy`."""

from __future__ import annotations

from dataclasses import dataclass

from dbt.adapters.clickhouse.credentials import ClickHouseCredentials


@dataclass
class ClickHousePyCredentials(ClickHouseCredentials):
    """What a profile of `type: clickhousepy` holds; every key is dbt-clickhouse's."""

    @property
    def type(self) -> str:
        """Give the adapter's name, as written in profiles.yml."""
        return "clickhousepy"
