"""TLS to ClickHouse: the variables alone, and an authority of one's own."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.raw_tables import PREDICTION_EVENTS
from tests.faults.conftest import FaultSystems
from tests.ingest.loading import DEADLINE
from tests.kafka.certificates import Authority
from tests.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def over_tls(systems: FaultSystems, authority: Authority) -> Iterator[dict[str, str]]:
    """Give the environment that reaches the systems' ClickHouse through TLS."""
    issued = authority.issue("clickhouse")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    with tcp_proxy((systems.server.host, systems.server.port), tls=context) as proxy:
        yield {
            **systems.process_environment(),
            "CLICKHOUSE_PORT": str(proxy.port),
            "CLICKHOUSE_SECURE": "true",
            "CLICKHOUSE_DATABASE": systems.raw_database,
        }


def driftline(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )


def test_loader_query_and_dbt_reach_clickhouse_through_tls(
    systems: FaultSystems, over_tls: dict[str, str], authority: Authority, tmp_path: Path
) -> None:
    trusting = {**over_tls, "SSL_CERT_FILE": str(authority.certificate)}
    systems.send(300)
    loaded = driftline(trusting, "load", "--until-caught-up")
    assert loaded.returncode == 0, loaded.stderr
    systems.assert_exact()
    asked = driftline(
        trusting,
        *["query", "--format", "json", f"select count() as landed from {PREDICTION_EVENTS}"],
    )
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout)["landed"] in (300, "300")
    trusting |= {"DRIFTLINE_HOME": str(tmp_path), "DRIFTLINE_TARGET": "prod"}
    debugged = driftline(trusting, "dbt", "debug", "--connection")
    assert debugged.returncode == 0, debugged.stdout + debugged.stderr


@pytest.mark.parametrize("command", [["load", "--until-caught-up"], ["query", "select 1"]])
def test_unknown_authority_is_named_with_its_remedy(
    over_tls: dict[str, str], command: list[str]
) -> None:
    refused = driftline(over_tls, *command)
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert over_tls["CLICKHOUSE_PORT"] in last
    assert "SSL_CERT_FILE" in last
    assert "Traceback" not in refused.stderr
    assert over_tls["CLICKHOUSE_PASSWORD"] not in refused.stderr
