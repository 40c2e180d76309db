"""The broker of the fault tests is Apache Kafka, and its faults are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException

from tests.kafka.admin import Committed
from tests.kafka.cluster import KafkaCluster
from tests.kafka.jars import JarsUnavailableError, jars


@pytest.fixture
def topic(kafka: KafkaCluster) -> str:
    name = f"topic-{uuid.uuid4().hex[:8]}"
    kafka.admin.create_topic(name)
    return name


def test_topic_has_another_id_when_it_is_created_again(kafka: KafkaCluster, topic: str) -> None:
    first = kafka.admin.topic_id(topic)
    kafka.admin.produce(topic, [b"of the first"])
    kafka.admin.delete_topic(topic)
    second = kafka.admin.create_topic(topic)
    assert len(first) == len(second) == 22
    assert first != second
    assert kafka.admin.messages(topic) == {}


def test_acknowledged_messages_survive_a_kill_and_a_restart(
    kafka: KafkaCluster, topic: str
) -> None:
    process = kafka.node().process
    assert process is not None
    values = [f"message {number}".encode() for number in range(500)]
    assert kafka.admin.produce(topic, list(values)) == list(range(500))
    address = kafka.bootstrap_servers
    kafka.kill()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(KafkaException):
        kafka.admin.client.list_topics(timeout=0.5)
    kafka.start_node()
    assert kafka.bootstrap_servers == address
    assert list(kafka.admin.messages(topic).values()) == values


def test_aborted_messages_are_in_the_log_and_invisible_to_read_committed(
    kafka: KafkaCluster, topic: str
) -> None:
    assert kafka.admin.produce_transaction(topic, [b"kept"]) == [0]
    assert kafka.admin.produce_aborted(topic, [b"discarded"]) == [2]
    assert kafka.admin.produce(topic, [b"plain"]) == [4]
    assert kafka.admin.messages(topic) == {0: b"kept", 4: b"plain"}
    everything = kafka.admin.messages(topic, isolation="read_uncommitted")
    assert everything == {0: b"kept", 2: b"discarded", 4: b"plain"}
    assert kafka.admin.bounds(topic) == (0, 5)


def test_an_open_transaction_holds_readers_back_until_it_is_committed(
    kafka: KafkaCluster, topic: str
) -> None:
    transaction = kafka.admin.begin_transaction(topic, [b"pending"])
    kafka.admin.produce(topic, [b"later"])
    assert kafka.admin.messages(topic) == {}
    transaction.commit()
    deadline = time.monotonic() + 30
    while kafka.admin.messages(topic) != {0: b"pending", 1: b"later"}:
        assert time.monotonic() < deadline


def test_deleted_records_are_gone(kafka: KafkaCluster, topic: str) -> None:
    kafka.admin.produce(topic, [b"a", None, b"c"])
    assert kafka.admin.delete_records(topic, 2) == 2
    assert kafka.admin.bounds(topic) == (2, 3)
    assert kafka.admin.messages(topic) == {2: b"c"}


def test_committed_offsets_are_altered_with_metadata_and_deleted(
    kafka: KafkaCluster, topic: str
) -> None:
    group = f"group-{topic}"
    kafka.admin.produce(topic, [b"a", b"b"])
    kafka.admin.alter_committed(group, topic, {0: Committed(2, "an intent")})
    assert kafka.admin.committed(group, topic) == {0: Committed(2, "an intent")}
    kafka.admin.alter_committed(group, topic, {0: 1})
    assert kafka.admin.committed(group, topic)[0].offset == 1
    kafka.admin.delete_group(group)
    assert kafka.admin.committed(group, topic) == {}


def test_a_suspended_node_does_not_answer_until_it_is_resumed(
    kafka: KafkaCluster, topic: str
) -> None:
    kafka.suspend()
    with pytest.raises(KafkaException):
        kafka.admin.client.list_topics(timeout=0.5)
    kafka.resume()
    kafka.heal()
    assert kafka.admin.produce(topic, [b"after"]) == [0]


def test_a_node_ends_with_the_process_that_started_it(tmp_path: Path, kafka: KafkaCluster) -> None:
    # No broker is needed for this: anything that the node's guard watches over will do.
    script = f"""
        import subprocess, sys, time
        from pathlib import Path
        from tests.kafka.cluster import KafkaNode

        class Sleeper(KafkaNode):
            def java_command(self, main_class, *arguments):
                return [sys.executable, "-c", "import time; time.sleep(600)"]

        node = Sleeper(1, Path({str(tmp_path)!r}), Path(), ())
        node.spawn()
        print(node.process.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    child.wait(30)
    parent.stdout.close()


def test_missing_maven_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(JarsUnavailableError, match="apt-get install maven"):
        jars()


@pytest.mark.faults
def test_messages_stay_when_their_leader_is_killed(kafka_trio: KafkaCluster) -> None:
    topic = f"topic-{uuid.uuid4().hex[:8]}"
    kafka_trio.admin.create_topic(topic, replicas=3)
    values = [f"message {number}".encode() for number in range(200)]
    first = kafka_trio.leader(topic)
    kafka_trio.admin.produce(topic, list(values[:100]))
    kafka_trio.kill(first)
    kafka_trio.admin.produce(topic, list(values[100:]))
    assert kafka_trio.leader(topic) != first
    assert list(kafka_trio.admin.messages(topic).values()) == values
    kafka_trio.heal()
