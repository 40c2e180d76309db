"""dbt's own suites for adapters, through dbt-clickhouse as it is, against the sandbox.

Of the suites, those that dbt-clickhouse passes without rewriting their SQL. They need the package
dbt-tests-adapter (`uv pip install dbt-tests-adapter`), else they are skipped.
"""

# mypy: disable-error-code="misc,no-untyped-call"

from __future__ import annotations

import pytest

pytest.importorskip("dbt.tests.adapter.basic", reason="uv pip install dbt-tests-adapter")

from dbt.adapters.factory import reset_adapters
from dbt.tests.adapter.basic.test_base import BaseSimpleMaterializations
from dbt.tests.adapter.basic.test_empty import BaseEmpty
from dbt.tests.adapter.basic.test_ephemeral import BaseEphemeral
from dbt.tests.adapter.basic.test_generic_tests import BaseGenericTests
from dbt.tests.adapter.basic.test_incremental import BaseIncremental
from dbt.tests.adapter.basic.test_singular_tests import BaseSingularTests
from dbt.tests.adapter.basic.test_singular_tests_ephemeral import BaseSingularTestsEphemeral
from dbt.tests.adapter.basic.test_snapshot_check_cols import BaseSnapshotCheckCols
from dbt.tests.adapter.basic.test_snapshot_timestamp import BaseSnapshotTimestamp
from dbt.tests.adapter.basic.test_table_materialization import BaseTableMaterialization
from dbt.tests.adapter.basic.test_validate_connection import BaseValidateConnection
from dbt.tests.adapter.concurrency.test_concurrency import BaseConcurrency
from dbt.tests.adapter.dbt_show.test_dbt_show import BaseShowLimit
from dbt.tests.adapter.query_comment.test_query_comment import BaseQueryComments
from dbt.tests.adapter.relations.test_changing_relation_type import BaseChangeRelationTypeValidator
from dbt.tests.adapter.unit_testing.test_case_insensitivity import BaseUnitTestCaseInsensivity
from dbt.tests.adapter.unit_testing.test_types import BaseUnitTestingTypes

from tests.warehouse_fixtures import ClickHouseProcess

pytest_plugins = ["dbt.tests.fixtures.project"]
pytestmark = [pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture(scope="class")
def dbt_profile_target(clickhouse_server: ClickHouseProcess) -> dict[str, object]:
    # dbt keeps the adapter of the last run in this process, and with it another test's server.
    reset_adapters()
    return {
        "type": "clickhouse",
        "driver": "http",
        "threads": 4,
        "host": clickhouse_server.host,
        "port": clickhouse_server.port,
        "user": clickhouse_server.user,
        "password": clickhouse_server.password,
        "use_lw_deletes": True,
        "custom_settings": {"input_format_skip_unknown_fields": 1},
    }


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
