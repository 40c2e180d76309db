"""Loaders that are killed, suspended, replaced, joined: every offset once, whenever it happens."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from datetime import date
from typing import Any

import pytest

from ingest.batches import Batch, BatchLimits
from ingest.intents import Intent
from ingest.landing import Sink
from ingest.raw_tables import PREDICTION_EVENTS
from tests.faults.conftest import SESSION_SECONDS, SMALL, FaultSystems
from tests.faults.faulty_proxy import Fault, faulty_proxy
from tests.ingest.loading import DEADLINE, running, wait_for, wrapped

pytestmark = pytest.mark.faults


def intents(systems: FaultSystems) -> dict[int, Intent]:
    """Give the open intents by partition."""
    committed = systems.cluster.admin.committed(systems.kafka.consumer_group, systems.topic)
    read = {
        partition: Intent.read(each.offset, each.metadata or "")
        for partition, each in committed.items()
    }
    return {partition: intent for partition, intent in read.items() if intent is not None}


@pytest.mark.parametrize("passes", [0, 4])
@pytest.mark.parametrize("point", ["before_intent", "after_intent", "after_insert", "after_commit"])
def test_killed_at_a_named_point(
    systems: FaultSystems, loaders: Any, point: str, passes: int
) -> None:
    systems.send(900)
    killed = loaders(systems, point, passes)
    assert killed.process.wait(DEADLINE) == -signal.SIGKILL, killed.log.read_text()
    # It died in its window: of what was declared, nothing had landed, or all of it.
    landed = systems.landed()
    open_intents = intents(systems)
    if point == "after_intent":
        assert any(
            not {(p, o) for o in range(i.first, i.last + 1)} & set(landed)
            for p, i in open_intents.items()
        )
    elif point == "after_insert":
        assert any((p, i.last) in landed for p, i in open_intents.items())
    elif point == "before_intent":
        assert len(landed) == 100 * passes or passes > 0
    else:
        assert landed
    assert landed.keys() < systems.acknowledged.keys()
    systems.send(300)
    systems.load(limits=BatchLimits(rows=70))
    systems.assert_exact()


@pytest.mark.parametrize("passes", [0, 3])
def test_killed_in_the_middle_of_a_body(systems: FaultSystems, loaders: Any, passes: int) -> None:
    systems.send(900)
    direct = systems.clickhouse.port
    killed: list[Any] = []
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS) as proxy:
        systems.through(proxy.port)
        fault = Fault("cut", then=lambda: killed[0].process.kill())
        if passes == 0:
            proxy.faults.append(fault)
        killed.append(loaders(systems))
        if passes:
            wait_for(lambda: proxy.inserts >= passes)
            proxy.faults.append(fault)
        assert killed[0].process.wait(DEADLINE) == -signal.SIGKILL
        assert proxy.happened == [fault]
    systems.through(direct)
    assert len(systems.landed()) < 900
    systems.load()
    systems.assert_exact()


@pytest.mark.parametrize("point", ["before_intent", "after_intent", "after_insert"])
def test_zombie_that_wakes_up_after_its_partitions_were_taken(
    systems: FaultSystems, loaders: Any, point: str
) -> None:
    """SIGSTOP past the session, SIGCONT once another loader has landed everything."""
    systems.send(900)
    zombie = loaders(systems, point, 2, "--signal", "SIGSTOP", "--for-ever")
    zombie.wait_until_suspended()
    assert len(systems.landed()) < 900
    with running(systems.loader(limits=BatchLimits(rows=80))):
        wait_for(lambda: systems.landed().keys() == systems.acknowledged.keys())
        zombie.process.send_signal(signal.SIGCONT)
        # It finds that it was taken for dead, and joins again as a member like any other.
        zombie.wait_until_it_says("was lost")
        systems.cluster.admin.wait_for_members(systems.kafka.consumer_group, 2)
        systems.send(300)
        wait_for(lambda: len(systems.landed()) >= 1200)
        zombie.process.send_signal(signal.SIGTERM)
        assert zombie.process.wait(DEADLINE) == 0
    systems.load()
    systems.assert_exact()


def test_partitions_that_are_revoked_while_an_insert_hangs(systems: FaultSystems) -> None:
    """The first loader gives up waiting; its insert arrives after its successor's."""
    systems.send(300)
    released, hanging = threading.Event(), threading.Event()
    held: list[Batch] = []

    def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
        held.append(batch)
        hanging.set()
        assert released.wait(DEADLINE)
        sink.insert(batch, token)

    # By range, all partitions are revoked, and some of each topic move.
    shared = {"assignment_strategy": "range", "drain_seconds": 0.5}
    first, _ = wrapped(systems, insert, limits=SMALL, workers=8, **shared)
    second = systems.loader(limits=BatchLimits(rows=1000, age_seconds=0.1), **shared)
    with running(first):
        assert hanging.wait(DEADLINE)
        wait_for(lambda: len(held) == 3)
        with running(second):
            # At least one partition moves, with the first loader's insert still on its way.
            wait_for(lambda: second.report.replayed >= 1 and second.report.rows > 0)
            taken = set(systems.landed())
            assert any((each.partition.partition, each.range.first) in taken for each in held)
            released.set()
            wait_for(lambda: systems.landed().keys() == systems.acknowledged.keys())
    systems.assert_exact()


@pytest.mark.parametrize("seed", [1, 2])
def test_storm_of_joining_and_dying(systems: FaultSystems, loaders: Any, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a seeded test
    systems.send(600)
    alive: list[Any] = []
    deaths = 0
    for _ in range(12):
        systems.send(300)
        if len(alive) < 3 and (chance.random() < 0.6 or not alive):
            alive.append(loaders(systems, "never", 0, "--rows", "40", "--age", "0.1", "--for-ever"))
        else:
            victim = alive.pop(chance.randrange(len(alive)))
            victim.process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
            victim.process.wait(DEADLINE)
            deaths += 1
        before = len(systems.landed())
        deadline = time.monotonic() + 2.0
        while alive and time.monotonic() < deadline and len(systems.landed()) <= before:
            threading.Event().wait(0.05)
    assert deaths >= 3
    for loader in alive:
        loader.process.kill()
        loader.process.wait()
    systems.load()
    systems.assert_exact()


def test_replay_after_midnight_of_the_last_day_of_a_month(
    systems: FaultSystems, loaders: Any
) -> None:
    """The intent has the day, so the repeated batch goes to the partition it was meant for."""
    systems.send(90, partition=0)
    direct = systems.clickhouse.port
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS, Fault("lose_answer")) as proxy:
        systems.through(proxy.port)
        first = systems.loader(
            today=lambda: date(2026, 10, 31), limits=BatchLimits(rows=90), session_seconds=3.0
        )
        with running(first):
            wait_for(lambda: bool(proxy.happened))
            first.stop()
            first.stop()
    systems.through(direct)
    # All had landed: it must not land on the next day too, though nothing says so but the table.
    systems.load(today=lambda: date(2026, 11, 1))
    systems.assert_exact()
    # And where nothing had landed, the day of the intent counts.
    systems.send(90, partition=1)
    killed = loaders(systems, "after_intent", 0, "--rows", "90")
    assert killed.process.wait(DEADLINE) == -signal.SIGKILL
    intended = intents(systems)[1].batch_date
    systems.load(today=lambda: date(2027, 1, 1), limits=BatchLimits(rows=7))
    systems.assert_exact()
    assert systems.column(
        f"select distinct batch_date from raw.{PREDICTION_EVENTS} where partition = 1"
    ) == [intended]


def forget_tokens_soon(systems: FaultSystems) -> None:
    systems.client.command(
        f"alter table {systems.raw_database}.{PREDICTION_EVENTS} "
        "modify setting non_replicated_deduplication_window = 3"
    )


def test_insert_that_is_repeated_after_its_token_was_forgotten(systems: FaultSystems) -> None:
    """A window of three tokens: then only the table can tell that the batch is there."""
    forget_tokens_soon(systems)
    systems.send(50, partition=0)
    direct = systems.clickhouse.port
    others: list[str] = []
    # Twice: the client itself repeats a request once when a connection breaks.
    lost = [Fault("lose_answer")] * 2
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS, *lost) as proxy:
        systems.through(proxy.port)

        def insert(sink: Sink, batch: Batch, token: str, attempt: int) -> None:
            sink.insert(batch, token)
            if batch.partition.partition == 1:
                others.append(token)

        loader, _ = wrapped(systems, insert, limits=BatchLimits(rows=5, age_seconds=0.1))
        with running(loader):
            wait_for(lambda: len(proxy.happened) == len(lost))
            systems.send(200, partition=1)
            wait_for(lambda: systems.landed().keys() == systems.acknowledged.keys())
    assert len(others) > 3
    assert loader.report.retries["connection"] >= 1
    systems.through(direct)
    systems.load()
    systems.assert_exact()


def test_zombie_whose_token_was_forgotten(systems: FaultSystems, loaders: Any) -> None:
    """Suspended between leave and insert, for so long that ClickHouse has forgotten the token."""
    forget_tokens_soon(systems)
    systems.send(100, partition=0)
    zombie = loaders(systems, "after_intent", 0, "--signal", "SIGSTOP", "--for-ever")
    zombie.wait_until_suspended()
    assert systems.landed() == {}
    systems.send(300, partition=1)
    systems.load(limits=BatchLimits(rows=20))
    systems.assert_exact()
    zombie.process.send_signal(signal.SIGCONT)
    zombie.wait_until_it_says("was lost")
    systems.send(30)
    wait_for(lambda: len(systems.landed()) == 430)
    zombie.process.send_signal(signal.SIGTERM)
    assert zombie.process.wait(DEADLINE) == 0
    systems.assert_exact()


def test_terminated_twice_it_leaves_at_once_and_loses_nothing(systems: FaultSystems) -> None:
    systems.send(300)
    direct = systems.clickhouse.port
    with faulty_proxy(lambda: direct, PREDICTION_EVENTS, *[Fault("hang")] * 9) as proxy:
        systems.through(proxy.port)
        process = subprocess.Popen(
            [sys.executable, "-m", "driftline", "load", "--session-seconds", "3"],
            env=systems.process_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: len(proxy.happened) >= 2)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)  # it waits for the inserts
        process.terminate()
        _, errors = process.communicate(timeout=20)  # far less than an insert's time-out
        assert process.returncode == 1
        assert "read again" in errors
    systems.through(direct)
    systems.load()
    systems.assert_exact()


def test_loader_that_finds_nothing_keeps_its_place(systems: FaultSystems, loaders: Any) -> None:
    """Idle for several sessions: the same member all the time."""
    loader = loaders(systems, "never", 0, "--for-ever")
    systems.cluster.admin.wait_for_members(systems.kafka.consumer_group, 1)
    before = set(systems.cluster.admin.members(systems.kafka.consumer_group))
    threading.Event().wait(SESSION_SECONDS * 2)
    assert set(systems.cluster.admin.members(systems.kafka.consumer_group)) == before
    systems.send(30)
    wait_for(lambda: len(systems.landed()) == 30)
    loader.process.send_signal(signal.SIGTERM)
    assert loader.process.wait(DEADLINE) == 0
    systems.assert_exact()
