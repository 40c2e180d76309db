"""`driftline sandbox up|status|env|down`, as a person would run them."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from driftline import settings
from sandbox import lifecycle
from sandbox.kafka_broker import start_mock_broker
from sandbox.parts import PARTS

GIVEN_CLICKHOUSE = {"CLICKHOUSE_HOST": "clickhouse.example"}
SYSTEM_VARIABLES = ("CLICKHOUSE_", "KAFKA_", "AWS_", "DRIFTLINE_")


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(SYSTEM_VARIABLES)
    }
    return {**kept, "DRIFTLINE_HOME": str(home), "COLUMNS": "300", **more}


def run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(environment, "sandbox", *arguments)


def run_command(
    environment: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "driftline", *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join((*process.cmdline(), *process.environ().values())):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    lifecycle.down(clean_environment(folder))
    assert processes_of(folder) == []


def test_up_offers_every_part_and_down_leaves_no_process(home: Path) -> None:
    environment = clean_environment(home)
    up = run(environment, "up")
    assert up.returncode == 0, up.stderr

    env_file = home / "sandbox.env"
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    written = settings.read_env_file(env_file)
    assert {
        *("CLICKHOUSE_HOST", "CLICKHOUSE_PORT", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD"),
        *("CLICKHOUSE_ANALYST_USER", "CLICKHOUSE_ANALYST_PASSWORD", "KAFKA_BOOTSTRAP_SERVERS"),
        *("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
        "DRIFTLINE_ARCHIVE_URL",
    } <= written.keys()
    assert len(written["CLICKHOUSE_PASSWORD"]) >= 32
    assert written["CLICKHOUSE_PASSWORD"] != written["CLICKHOUSE_ANALYST_PASSWORD"]
    for log in (home / "logs").iterdir():
        assert written["CLICKHOUSE_PASSWORD"] not in log.read_text()

    status = run(environment, "status")
    assert status.returncode == 0
    assert status.stdout.count("running") == len(PARTS)

    # The archive's bucket is there from the start.
    archived = run_command(environment, "archive", "run")
    assert archived.returncode == 0, archived.stderr
    assert archived.stdout.startswith("s3://driftline-archive/raw: 0 rows archived")

    down = run(environment, "down")
    assert down.returncode == 0
    assert processes_of(home) == []
    assert not env_file.exists()
    assert (home / "clickhouse").exists()
    assert run(environment, "status").returncode == 1
    assert run(environment, "down", "--delete-data").returncode == 0
    assert not (home / "clickhouse").exists()


def test_clickhouse_data_survive_down_and_up(home: Path) -> None:
    import clickhouse_connect

    environment = clean_environment(home, AWS_PROFILE="mine")
    for statements in (
        ("create database kept", "create table kept.rows (id Int32) order by id"),
        ("insert into kept.rows values (7)",),
        ("select id from kept.rows",),
    ):
        assert run(environment, "up").returncode == 0
        written = settings.read_env_file(home / "sandbox.env")
        client = clickhouse_connect.get_client(
            host=written["CLICKHOUSE_HOST"],
            port=int(written["CLICKHOUSE_PORT"]),
            username=written["CLICKHOUSE_USER"],
            password=written["CLICKHOUSE_PASSWORD"],
        )
        answers = [client.command(statement) for statement in statements]
        client.close()
        assert run(environment, "down").returncode == 0
    assert answers == [7]


def test_up_twice_keeps_the_running_sandbox(home: Path) -> None:
    environment = clean_environment(home, **GIVEN_CLICKHOUSE)
    assert run(environment, "up").returncode == 0
    before = {process.pid for process in processes_of(home)}
    variables = (home / "sandbox.env").read_text()
    again = run(environment, "up")
    assert again.returncode == 0, again.stderr
    assert {process.pid for process in processes_of(home)} == before
    assert (home / "sandbox.env").read_text() == variables


def test_up_does_not_start_what_the_environment_names(home: Path) -> None:
    environment = clean_environment(
        home, **GIVEN_CLICKHOUSE, KAFKA_BOOTSTRAP_SERVERS="kafka.example:9092"
    )
    up = run(environment, "up")
    assert up.returncode == 0, up.stderr
    written = settings.read_env_file(home / "sandbox.env")
    assert not any(name.startswith(("CLICKHOUSE", "KAFKA")) for name in written)
    assert written["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    status = run(environment, "status")
    assert status.returncode == 0
    assert "CLICKHOUSE_HOST is set" in status.stdout
    assert "KAFKA_BOOTSTRAP_SERVERS is set" in status.stdout


def test_up_starts_nothing_when_every_system_is_given(home: Path) -> None:
    environment = clean_environment(
        home,
        **GIVEN_CLICKHOUSE,
        KAFKA_BOOTSTRAP_SERVERS="kafka.example:9092",
        AWS_ACCESS_KEY_ID="AKIA",
    )
    assert run(environment, "up").returncode == 0
    assert processes_of(home) == []
    assert not (home / "sandbox.env").exists()


def test_up_refuses_a_password_without_a_host(home: Path) -> None:
    up = run(clean_environment(home, CLICKHOUSE_PASSWORD="half"), "up")
    assert up.returncode == 1
    assert "CLICKHOUSE_PASSWORD is set, but CLICKHOUSE_HOST is not" in up.stderr
    assert "Traceback" not in up.stderr
    assert processes_of(home) == []


def test_up_refuses_another_target(home: Path) -> None:
    up = run(clean_environment(home, DRIFTLINE_TARGET="prod"), "up")
    assert up.returncode == 1
    assert "unset DRIFTLINE_TARGET" in up.stderr


def test_env_prints_exports_that_a_later_start_supersedes(home: Path) -> None:
    environment = clean_environment(home, **GIVEN_CLICKHOUSE)
    assert run(environment, "up").returncode == 0
    exports = run(environment, "env").stdout
    assert re.search(r"^export KAFKA_BOOTSTRAP_SERVERS=127\.0\.0\.1:\d+$", exports, re.MULTILINE)

    shell = dict(environment) | settings.read_env_file(home / "sandbox.env")
    assert "running" in run(shell, "status").stdout
    assert run(shell, "down").returncode == 0
    down = run(shell, "status")
    assert down.returncode == 1
    assert "KAFKA_BOOTSTRAP_SERVERS is set" not in down.stdout

    # The shell still has the dead addresses: they are not a system of one's own.
    assert run(shell, "up").returncode == 0
    assert run(shell, "status").stdout.count("running") == 2


def test_env_says_how_to_start_when_down(home: Path) -> None:
    env = run(clean_environment(home), "env")
    assert env.returncode == 1
    assert env.stdout == ""
    assert "driftline sandbox up" in env.stderr


def test_death_of_one_part_is_logged_and_shown_and_mended_by_up(home: Path) -> None:
    environment = clean_environment(home, **GIVEN_CLICKHOUSE)
    assert run(environment, "up").returncode == 0
    kafka = next(one for one in lifecycle.status(environment) if one.part.name == "kafka")
    others = processes_of(home)
    os.kill(kafka.pids[0], signal.SIGKILL)
    psutil.wait_procs(others, timeout=30)

    status = run(environment, "status")
    assert status.returncode == 1
    assert "kafka stopped (rc=-9)" in status.stdout
    assert "kafka stopped (rc=-9)" in (home / "logs" / "supervisor.log").read_text()
    assert run(environment, "up").returncode == 0
    assert run(environment, "status").returncode == 0


def test_down_ends_the_orphans_of_a_killed_supervisor(home: Path) -> None:
    environment = clean_environment(home, **GIVEN_CLICKHOUSE)
    assert run(environment, "up").returncode == 0
    supervisor = next(p for p in processes_of(home) if os.getsid(p.pid) == p.pid and is_top(p))
    supervisor.kill()
    assert run(environment, "down").returncode == 0
    assert processes_of(home) == []


def is_top(process: psutil.Process) -> bool:
    return "sandbox.supervisor" in process.cmdline()


def test_each_start_of_the_mock_broker_has_its_own_cluster_id_and_both_topics(home: Path) -> None:
    from confluent_kafka.admin import AdminClient

    environment = clean_environment(
        home, **GIVEN_CLICKHOUSE, AWS_PROFILE="mine", DRIFTLINE_LABELS_TOPIC="truths"
    )
    identities: set[str | None] = set()
    for _ in range(2):
        assert run(environment, "up").returncode == 0
        address = settings.read_env_file(home / "sandbox.env")["KAFKA_BOOTSTRAP_SERVERS"]
        metadata = AdminClient({"bootstrap.servers": address}).list_topics(timeout=10)
        identities.add(metadata.cluster_id)
        partitions = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
        assert partitions == {"predictions": 4, "truths": 4}
        assert run(environment, "down").returncode == 0
    assert len(identities) == 2


def test_mock_broker_never_has_a_cluster_id_again(tmp_path: Path) -> None:
    first, first_id, _ = start_mock_broker(["predictions"], set())
    del first
    # Every id that the freed memory could give again counts as used.
    brokers = [start_mock_broker(["predictions"], {first_id})]
    for _ in range(3):
        brokers.append(start_mock_broker(["predictions"], {first_id, brokers[-1][1]}))
    assert first_id not in {cluster_id for _, cluster_id, _ in brokers}
