"""Connections: those of dbt-clickhouse, under the type name `clickhousepy`."""

from __future__ import annotations

from dbt.adapters.clickhouse.connections import ClickHouseConnectionManager


class ClickHousePyConnectionManager(ClickHouseConnectionManager):
    """dbt-clickhouse's connection manager; dbt takes the adapter's name from TYPE."""

    TYPE = "clickhousepy"
