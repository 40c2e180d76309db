"""dbt Python models on ClickHouse: dbt-clickhouse, plus models written in Python."""

from dbt.adapters.base.plugin import AdapterPlugin
from dbt.adapters.clickhousepy.connections import (
    ClickHousePyConnectionManager as ClickHousePyConnectionManager,
)
from dbt.adapters.clickhousepy.credentials import ClickHousePyCredentials
from dbt.adapters.clickhousepy.impl import ClickHousePyAdapter
from dbt.include.clickhousepy import PACKAGE_PATH

Plugin = AdapterPlugin(
    adapter=ClickHousePyAdapter,
    credentials=ClickHousePyCredentials,
    include_path=PACKAGE_PATH,
    dependencies=["clickhouse"],
)
