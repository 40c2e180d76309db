"""The resource of every asset: the systems that the environment names, connected when needed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from driftline import settings
from driftline.settings import ClickHouseSettings, KafkaSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from orchestration.cloudwatch.publisher import CloudWatch


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Systems:
    """ClickHouse, Kafka and AWS as the environment has them at the moment of use.

    A sandbox that was started again has new ports and passwords, so nothing is read before it is
    needed. The class is no configurable resource on purpose: what is configuration in Dagster is
    shown in its UI, and this holds passwords. `on_dbt_progress` is told of (done, of) nodes.
    """

    environment: Mapping[str, str] | None = field(default=None, repr=False)
    now: Callable[[], datetime] = field(default=_utc_now, repr=False)
    on_dbt_progress: Callable[[int, int], None] = field(default=lambda _done, _of: None, repr=False)

    def variables(self) -> dict[str, str]:
        """Give the environment, with the running sandbox's variables under it."""
        found = dict(os.environ if self.environment is None else self.environment)
        settings.load_sandbox_environment(found)
        return found

    def clickhouse_settings(self) -> ClickHouseSettings:
        """Say where ClickHouse is; raises SettingsError with the remedy."""
        return ClickHouseSettings.from_environment(self.variables())

    def kafka_settings(self) -> KafkaSettings:
        """Say where Kafka is; raises SettingsError with the remedy."""
        return KafkaSettings.from_environment(self.variables())

    @contextmanager
    def clickhouse(self) -> Iterator[Client]:
        """Connect to ClickHouse; raises the client's error where it cannot be reached."""
        from ingest.warehouse import connect

        with closing(connect(self.clickhouse_settings())) as client:
            yield client

    def cloudwatch(self) -> CloudWatch:
        """Connect to CloudWatch; raises SettingsError where the environment names no region."""
        from orchestration.cloudwatch.publisher import connect_cloudwatch

        return connect_cloudwatch(self.variables())

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other run of this DRIFTLINE_HOME writes to the warehouse, then hold it.

        A lock of the operating system: it ends with its process, however that ends. Dagster's own
        limit holds for the runs of its queue only, not for those that a command line executes.
        """
        folder = settings.home(self.variables()) / "dagster"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "warehouse.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def first_line(error: BaseException) -> str:
    """Give the first line of an error: clients append traces of the server."""
    text: Any = str(error).strip() or type(error).__name__
    return str(text).splitlines()[0]
