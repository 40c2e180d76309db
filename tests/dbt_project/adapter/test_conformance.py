"""dbt's own suites for adapters, through `clickhousepy` on the sandbox's ClickHouse.

Of the suites those that dbt-clickhouse passes, with its own fixtures where dbt's SQL is not
ClickHouse's, and those for Python models. Where a suite's Python is Spark's, it is pandas's here.
"""

# mypy: disable-error-code="misc,no-untyped-call"

from __future__ import annotations

import pytest

pytest.importorskip("dbt.tests.adapter.basic", reason="uv pip install dbt-tests-adapter")

from dbt.adapters.factory import reset_adapters
from dbt.tests.adapter.aliases.test_aliases import (
    BaseAliasErrors,
    BaseAliases,
    BaseSameAliasDifferentDatabases,
    BaseSameAliasDifferentSchemas,
)
from dbt.tests.adapter.basic.expected_catalog import base_expected_catalog, no_stats
from dbt.tests.adapter.basic.test_adapter_methods import BaseAdapterMethod
from dbt.tests.adapter.basic.test_base import BaseSimpleMaterializations
from dbt.tests.adapter.basic.test_docs_generate import BaseDocsGenerate
from dbt.tests.adapter.basic.test_empty import BaseEmpty
from dbt.tests.adapter.basic.test_ephemeral import BaseEphemeral
from dbt.tests.adapter.basic.test_generic_tests import BaseGenericTests
from dbt.tests.adapter.basic.test_incremental import (
    BaseIncremental,
    BaseIncrementalNotSchemaChange,
)
from dbt.tests.adapter.basic.test_singular_tests import BaseSingularTests
from dbt.tests.adapter.basic.test_singular_tests_ephemeral import BaseSingularTestsEphemeral
from dbt.tests.adapter.basic.test_snapshot_check_cols import BaseSnapshotCheckCols
from dbt.tests.adapter.basic.test_snapshot_timestamp import BaseSnapshotTimestamp
from dbt.tests.adapter.basic.test_table_materialization import BaseTableMaterialization
from dbt.tests.adapter.basic.test_validate_connection import BaseValidateConnection
from dbt.tests.adapter.concurrency.test_concurrency import BaseConcurrency
from dbt.tests.adapter.dbt_show.test_dbt_show import BaseShowLimit
from dbt.tests.adapter.python_model.test_python_model import (
    BasePythonEmptyTests,
    BasePythonIncrementalTests,
    BasePythonMetaGetTests,
    BasePythonModelTests,
    BasePythonSampleTests,
    python_model_meta_from_schema,
    python_model_meta_get,
    schema_yml_with_meta,
)
from dbt.tests.adapter.query_comment.test_query_comment import BaseQueryComments
from dbt.tests.adapter.relations.test_changing_relation_type import BaseChangeRelationTypeValidator
from dbt.tests.adapter.unit_testing.test_case_insensitivity import BaseUnitTestCaseInsensivity
from dbt.tests.adapter.unit_testing.test_types import BaseUnitTestingTypes
from dbt.tests.adapter.utils.test_any_value import BaseAnyValue
from dbt.tests.adapter.utils.test_bool_or import BaseBoolOr
from dbt.tests.adapter.utils.test_cast_bool_to_text import BaseCastBoolToText
from dbt.tests.adapter.utils.test_concat import BaseConcat
from dbt.tests.adapter.utils.test_date_trunc import BaseDateTrunc
from dbt.tests.adapter.utils.test_escape_single_quotes import (
    BaseEscapeSingleQuotesBackslash,
    BaseEscapeSingleQuotesQuote,
)
from dbt.tests.adapter.utils.test_except import BaseExcept
from dbt.tests.adapter.utils.test_hash import BaseHash
from dbt.tests.adapter.utils.test_intersect import BaseIntersect
from dbt.tests.adapter.utils.test_length import BaseLength
from dbt.tests.adapter.utils.test_position import BasePosition

from tests.warehouse_fixtures import ClickHouseProcess

pytest_plugins = ["dbt.tests.fixtures.project"]
pytestmark = pytest.mark.conformance


@pytest.fixture(scope="class")
def dbt_profile_target(clickhouse_server: ClickHouseProcess) -> dict[str, object]:
    # dbt keeps the adapter of the last run in this process, and with it another test's server.
    reset_adapters()
    return {
        "type": "clickhousepy",
        "driver": "http",
        "threads": 4,
        "host": clickhouse_server.host,
        "port": clickhouse_server.port,
        "user": clickhouse_server.user,
        "password": clickhouse_server.password,
        "use_lw_deletes": True,
        "custom_settings": {"input_format_skip_unknown_fields": 1},
    }


class TestPythonModel(BasePythonModelTests):
    pass


class TestPythonIncremental(BasePythonIncrementalTests):
    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, object]:
        """ClickHouse has no MERGE: the same by delete and insert."""
        return {"models": {"+incremental_strategy": "delete_insert"}}

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "m_1.sql": (
                "{{ config(materialized='table') }}\n"
                "select toInt32(arrayJoin([1, 2, 3, 4, 5])) as id"
            ),
            "incremental.py": """
def model(dbt, session):
    dbt.config(materialized="incremental", unique_key="id")
    rows = dbt.ref("m_1")
    if dbt.is_incremental:
        return rows.to_pandas(where="id > 5")
    return rows.to_pandas()
""",
        }


class TestPythonMetaGet(BasePythonMetaGetTests):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "meta_test.py": _pandas_for_spark(python_model_meta_get),
            "meta_from_schema.py": _pandas_for_spark(python_model_meta_from_schema),
            "schema.yml": schema_yml_with_meta,
        }


def _pandas_for_spark(model: str) -> str:
    return "import pandas as pd\n" + model.replace(
        "session.createDataFrame(data, ", "pd.DataFrame(data, columns="
    )


class _ClickHouseTimes:
    @pytest.fixture(scope="class")
    def input_model_sql(self) -> str:
        """dbt-clickhouse's own fixture: ClickHouse does not read the offset `-0` of a time."""
        return """
{{ config(materialized='table', event_time='event_time') }}
select 1 as id, TIMESTAMP '2025-01-01 01:25:00' as event_time
union all
select 2 as id, TIMESTAMP '2025-01-02 13:47:00' as event_time
union all
select 3 as id, TIMESTAMP '2025-01-03 01:32:00' as event_time
"""


class TestPythonEmpty(_ClickHouseTimes, BasePythonEmptyTests):
    pass


class TestPythonSample(_ClickHouseTimes, BasePythonSampleTests):
    pass


class TestSimpleMaterializations(BaseSimpleMaterializations):
    pass


class TestEmpty(BaseEmpty):
    pass


class TestEphemeral(BaseEphemeral):
    pass


class TestGenericTests(BaseGenericTests):
    pass


class TestIncremental(BaseIncremental):
    pass


class TestIncrementalNotSchemaChange(BaseIncrementalNotSchemaChange):
    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        """dbt-clickhouse's own fixture: numbers and times are not text by themselves."""
        return {
            "incremental_not_schema_change.sql": """
{{ config(
    materialized="incremental",
    unique_key="user_id_current_time",
    on_schema_change="append_new_columns"
) }}
select
    toString(1) || '-' || toString(now64()) as user_id_current_time,
    {% if is_incremental() %}
        'thisis18characters' as platform
    {% else %}
        'okthisis20characters' as platform
    {% endif %}
"""
        }


class TestSingularTests(BaseSingularTests):
    pass


class TestSingularTestsEphemeral(BaseSingularTestsEphemeral):
    pass


class TestSnapshotCheckCols(BaseSnapshotCheckCols):
    pass


class TestSnapshotTimestamp(BaseSnapshotTimestamp):
    pass


class TestTableMaterialization(BaseTableMaterialization):
    pass


class TestValidateConnection(BaseValidateConnection):
    pass


class TestAdapterMethods(BaseAdapterMethod):
    pass


class TestDocsGenerate(BaseDocsGenerate):
    @pytest.fixture(scope="class")
    def expected_catalog(self, project: object) -> object:
        return base_expected_catalog(
            project,
            role=None,
            id_type="Int32",
            text_type="String",
            time_type="DateTime",
            view_type="view",
            table_type="table",
            model_stats=no_stats(),
        )


class TestAliases(BaseAliases):
    pass


class TestAliasErrors(BaseAliasErrors):
    pass


class TestSameAliasDifferentSchemas(BaseSameAliasDifferentSchemas):
    pass


class TestSameAliasDifferentDatabases(BaseSameAliasDifferentDatabases):
    pass


class TestConcurrency(BaseConcurrency):
    pass


class TestShowLimit(BaseShowLimit):
    pass


class TestQueryComments(BaseQueryComments):
    pass


class TestChangeRelationType(BaseChangeRelationTypeValidator):
    pass


class TestUnitTestingTypes(BaseUnitTestingTypes):
    @pytest.fixture
    def data_types(self) -> list[list[str]]:
        """Types of ClickHouse in place of Postgres's."""
        return [
            ["1", "1"],
            ["'a'", "a"],
            ["true", "true"],
            ["toDate('2020-01-02')", "2020-01-02"],
            ["toFloat64(1.5)", "1.5"],
        ]


class TestUnitTestCaseInsensitivity(BaseUnitTestCaseInsensivity):
    pass


class TestAnyValue(BaseAnyValue):
    pass


class TestBoolOr(BaseBoolOr):
    pass


class TestCastBoolToText(BaseCastBoolToText):
    pass


class TestConcat(BaseConcat):
    pass


class TestDateTrunc(BaseDateTrunc):
    pass


class TestEscapeSingleQuotesQuote(BaseEscapeSingleQuotesQuote):
    pass


class TestEscapeSingleQuotesBackslash(BaseEscapeSingleQuotesBackslash):
    pass


class TestExcept(BaseExcept):
    pass


class TestHash(BaseHash):
    pass


class TestIntersect(BaseIntersect):
    pass


class TestLength(BaseLength):
    pass


class TestPosition(BasePosition):
    pass
