"""Apache Kafka that is down, loses a leader, drops messages, changes topics, or is meddled with."""

from __future__ import annotations

import signal
import threading
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from ingest.batches import BatchLimits
from ingest.lag import LagReader
from ingest.loader import Loader
from ingest.raw_tables import PREDICTION_EVENTS
from ingest.topic_identity import TopicIdentities
from tests.faults.conftest import PARTITIONS, SESSION_SECONDS, SMALL, FaultSystems
from tests.ingest.loading import DEADLINE, running, wait_for
from tests.kafka.admin import Committed

pytestmark = pytest.mark.faults


def has_landed_more(loader: Loader, rows: int) -> bool:
    return loader.report.rows > rows


def has_another_leader(systems: FaultSystems, former: int) -> bool:
    return systems.cluster.leader(systems.topic) not in (-1, former)


def is_in_sync(systems: FaultSystems) -> bool:
    """Whether every replica of every topic, the group's offsets among them, has what it should."""
    servers: dict[str, Any] = {"bootstrap.servers": systems.kafka.bootstrap_servers}
    topics = AdminClient(servers).list_topics(timeout=10).topics.values()
    partitions = [each for topic in topics for each in topic.partitions.values()]
    return all(len(each.isrs) == len(each.replicas) for each in partitions)


def everything_landed(systems: FaultSystems) -> None:
    wait_for(lambda: systems.landed().keys() >= systems.acknowledged.keys())
    systems.assert_exact()


@pytest.mark.parametrize("offset", [0, 40, 10_000])
def test_operator_moves_the_group(systems: FaultSystems, offset: int) -> None:
    systems.send(300)
    systems.load()
    admin = systems.cluster.admin
    admin.alter_committed(
        systems.kafka.consumer_group, systems.topic, dict.fromkeys(range(3), offset)
    )
    systems.send(300)
    report = systems.load()
    assert report.rows == 300
    systems.assert_exact()
    committed = admin.committed(systems.kafka.consumer_group, systems.topic)
    assert {each.offset for each in committed.values()} == {200}


def test_deleted_group(systems: FaultSystems) -> None:
    systems.send(300)
    systems.load()
    systems.cluster.admin.delete_group(systems.kafka.consumer_group)
    systems.send(300)
    assert systems.load().rows == 300
    systems.assert_exact()


@pytest.mark.parametrize(
    "metadata",
    [
        "not json",
        '{"v":1}',
        '{"v":1,"t":"another topic","l":150,"n":51,"d":"2026-11-21"}',
        # Of a message that never was.
        '{"v":1,"t":"TOPIC","l":99999,"n":5,"d":"2026-11-21"}',
    ],
)
def test_commit_metadata_that_is_corrupt_or_foreign(systems: FaultSystems, metadata: str) -> None:
    systems.send(300)
    systems.load()
    admin = systems.cluster.admin
    written = metadata.replace("TOPIC", admin.topic_id(systems.topic))
    wanted: dict[int, int | Committed] = dict.fromkeys(range(3), Committed(100, written))
    admin.alter_committed(systems.kafka.consumer_group, systems.topic, wanted)
    systems.send(300)
    systems.load()
    systems.assert_exact()


def test_retention_that_passed_while_nobody_read(systems: FaultSystems) -> None:
    systems.send(300)
    systems.load()
    systems.send(300)
    assert systems.cluster.admin.delete_records(systems.topic, 150, partition=1) == 150
    report = systems.load()
    gone = {(1, offset) for offset in range(100, 150)}
    assert report.lost == len(gone)
    assert systems.rows(
        "select partition, first_offset, last_offset, reason from raw.offset_gaps"
    ) == [(1, 100, 149, "retention")]
    for coordinate in gone:
        del systems.acknowledged[coordinate]
    systems.assert_exact()
    # Noticed once, however often it is looked at.
    systems.load()
    assert len(systems.rows("select * from raw.offset_gaps")) == 1


def test_transactions_that_commit_and_abort(systems: FaultSystems) -> None:
    """Offsets have holes; nothing of an aborted transaction lands; no lag is left at the end."""
    admin = systems.cluster.admin
    loader = systems.loader(limits=SMALL)
    with running(loader):
        for number in range(6):
            values: list[bytes | None] = [f"{number}-{each}".encode() for each in range(20)]
            admin.produce_aborted(systems.topic, values)
            offsets = admin.produce_transaction(systems.topic, values)
            for offset, value in zip(offsets, values, strict=True):
                assert value is not None
                systems.acknowledged[0, offset] = value
            systems.send(30)
        # An open one holds back what comes after it, and nothing of it is lost.
        held = admin.begin_transaction(systems.topic, [b"held"])
        systems.send(30)
        wait_for(lambda: len(systems.landed()) == len(systems.acknowledged) - 10)
        held.commit()
        systems.acknowledged[0, held.offsets[0]] = b"held"
        everything_landed(systems)
        assert systems.landed() == {
            (partition, offset): value
            for partition in range(3)
            for offset, value in admin.messages(systems.topic, partition).items()
        }
        with LagReader(systems.kafka) as reader:
            wait_for(lambda: not any(reader.lag().values()))
    assert loader.report.lost == 0
    systems.load()
    systems.assert_exact()


def landed_by_topic_id(systems: FaultSystems) -> dict[str, list[tuple[int, int, str]]]:
    found: dict[str, list[tuple[int, int, str]]] = {}
    for topic_id, partition, offset, value in systems.rows(
        f"select topic_id, partition, offset, value from raw.{PREDICTION_EVENTS} order by all"
    ):
        found.setdefault(topic_id, []).append((partition, offset, value))
    return found


def expected_rows(systems: FaultSystems) -> list[tuple[int, int, str]]:
    return [(*at, value.decode()) for at, value in sorted(systems.acknowledged.items())]


@pytest.mark.parametrize("is_longer", [True, False])
def test_topic_that_was_made_anew_while_nobody_read(systems: FaultSystems, is_longer: bool) -> None:
    admin = systems.cluster.admin
    systems.send(300)
    systems.load()
    old_id, old = admin.topic_id(systems.topic), expected_rows(systems)
    admin.delete_topic(systems.topic)
    systems.acknowledged.clear()
    new_id = admin.create_topic(systems.topic, 3)
    systems.send(600 if is_longer else 90)
    systems.load()
    assert landed_by_topic_id(systems) == {old_id: old, new_id: expected_rows(systems)}


@pytest.mark.parametrize("is_longer", [True, False])
def test_topic_that_is_made_anew_under_a_running_loader(
    systems: FaultSystems, is_longer: bool
) -> None:
    admin = systems.cluster.admin
    loader = systems.loader(limits=SMALL)
    with running(loader):
        systems.send(300)
        everything_landed(systems)
        old_id, old = admin.topic_id(systems.topic), expected_rows(systems)
        admin.delete_topic(systems.topic)
        systems.acknowledged.clear()
        new_id = admin.create_topic(systems.topic, 3)
        systems.send(600 if is_longer else 90)
        wait_for(lambda: len(landed_by_topic_id(systems).get(new_id, ())) >= 90)
    systems.load()
    assert landed_by_topic_id(systems) == {old_id: old, new_id: expected_rows(systems)}


def test_broker_that_is_down_for_several_sessions(systems: FaultSystems) -> None:
    loader = systems.loader(limits=SMALL)
    with running(loader):
        systems.send(300)
        everything_landed(systems)
        systems.cluster.kill()
        threading.Event().wait(SESSION_SECONDS * 3)
        systems.cluster.start_node()
        systems.send(300)
        everything_landed(systems)


def test_broker_that_is_frozen_past_the_session(systems: FaultSystems) -> None:
    loader = systems.loader(limits=SMALL)
    with running(loader):
        systems.send(300)
        everything_landed(systems)
        systems.cluster.suspend()
        threading.Event().wait(SESSION_SECONDS * 2)
        systems.cluster.resume()
        systems.send(300)
        everything_landed(systems)


def test_terminated_while_the_broker_is_down(systems: FaultSystems, loaders: Any) -> None:
    """It ends by itself, in bounded time, and what it had landed is known to the table."""
    systems.send(300)
    loader = loaders(systems, "never", 0, "--for-ever", "--age", "0.1")
    wait_for(lambda: len(systems.landed()) == 300)
    systems.cluster.kill()
    loader.process.send_signal(signal.SIGTERM)
    assert loader.process.wait(DEADLINE) == 0
    systems.cluster.start_node()
    systems.send(300)
    systems.load()
    systems.assert_exact()


def test_broker_that_dies_while_messages_come(systems: FaultSystems) -> None:
    """What the broker acknowledged lands; what it did not, may or may not."""
    acknowledged: list[tuple[int, int, bytes]] = []
    stop = threading.Event()

    def produce() -> None:
        producer = Producer(
            {
                "bootstrap.servers": systems.kafka.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 5,
            }
        )

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                acknowledged.append((message.partition(), message.offset(), message.value()))

        number = 0
        while not stop.is_set():
            for partition in range(3):
                number += 1
                producer.produce(
                    systems.topic, str(number).encode(), partition=partition, on_delivery=delivered
                )
            producer.poll(0.005)
        producer.flush(DEADLINE)

    thread = threading.Thread(target=produce, daemon=True)
    loader = systems.loader(limits=SMALL)
    with running(loader):
        thread.start()
        for _ in range(2):
            landed = loader.report.rows
            wait_for(partial(has_landed_more, loader, landed + 200))
            systems.cluster.restart()
        landed = loader.report.rows
        wait_for(lambda: loader.report.rows > landed + 200)
        stop.set()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        systems.acknowledged = {(p, o): value for p, o, value in acknowledged}
        everything_landed(systems)


def test_leaders_and_coordinators_that_die_in_turn(replicated: FaultSystems) -> None:
    systems = replicated
    loader = systems.loader(limits=BatchLimits(rows=20, age_seconds=0.1))
    with running(loader):
        for number in (1, 2, 3):
            systems.send(300)
            wait_for(lambda: loader.report.rows > 0)
            systems.cluster.kill(number)
            wait_for(partial(has_another_leader, systems, number))
            systems.send(300)
            everything_landed(systems)
            systems.cluster.start_node(number)
            # Else the next one to die may be the only one that knows the group.
            wait_for(partial(is_in_sync, systems))
    systems.load()
    systems.assert_exact()


def test_nodes_that_die_while_nobody_asks_are_not_asked_again(replicated: FaultSystems) -> None:
    systems = replicated
    systems.send(300)
    with LagReader(systems.kafka) as reader:
        # Each knows one node of the three as controller, by chance: some know the one that dies.
        identities = [TopicIdentities(systems.kafka.client_configuration()) for _ in range(6)]

        def answers() -> list[Any]:
            return [
                *(each.of(systems.topic) for each in identities),
                *(reader.bounds(systems.topic, number) for number in range(PARTITIONS)),
            ]

        before = answers()
        leader = systems.cluster.leader(systems.topic)
        systems.cluster.kill(leader)
        wait_for(partial(has_another_leader, systems, leader))
        # An asker that waits for the dead raises when its 10 s are over.
        assert answers() == before
    systems.cluster.start_node(leader)
    wait_for(partial(is_in_sync, systems))
