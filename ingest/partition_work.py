"""What a loader does on its worker threads: find where a partition begins, land a batch.

Nothing here knows of the loop, which may be answering its group meanwhile (`ingest.loader`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ingest.assigned_partition import Landed, Located
from ingest.batches import Batch
from ingest.intents import Intent, IntentError
from ingest.lag import Bounds
from ingest.landing import Sink, land_exactly_once
from ingest.offsets import PartitionId, StartPolicy, decide_start
from ingest.topic_identity import TopicIdentity


class LeaseExpiredError(Exception):
    """An intent is too old to act upon: it must be declared anew."""


class TopicChangedError(Exception):
    """A topic was deleted and made again while it was read."""


class PartitionWork:
    """The work on partitions, with what it needs; the arguments are those of `Loader`."""

    def __init__(
        self,
        sink: Sink,
        *,
        identify: Callable[[str], TopicIdentity],
        bounds: Callable[[str, int], Bounds],
        start: StartPolicy,
        lease_seconds: float,
        clock: Callable[[], float],
        crash_point: Callable[[str], None],
    ) -> None:
        self._sink = sink
        self._identify = identify
        self._bounds = bounds
        self._start = start
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._crash_point = crash_point

    def locate(self, topic: str, partition: int) -> Located:
        """Find where to read a partition from, and record what the broker no longer has.

        Raises OffsetError, LandingError and KafkaException.
        """
        identity = self._identify(topic)
        partition_id = PartitionId(identity.cluster, topic, identity.topic_id, partition)
        landed_last = self._sink.landed_last(partition_id)
        bounds = self._bounds(topic, partition)
        intent, unread = None, None
        if bounds.committed is not None:
            try:
                intent = Intent.read(bounds.committed, bounds.metadata)
            except IntentError as error:
                unread = str(error)
        start = decide_start(
            partition_id,
            landed_last=landed_last,
            low=bounds.low,
            high=bounds.high,
            committed=bounds.committed,
            intent=intent,
            policy=self._start,
        )
        if start.gap is not None:
            self._sink.record_gap(partition_id, start.gap, "retention")
        return Located(partition_id, start, bounds, landed_last, unread)

    def land(self, batch: Batch, is_known: bool, declared_at: float) -> Landed:
        """Land a batch whose intent was sent at `declared_at`.

        One that `is_known` may have landed, or be landing: only what is missing is inserted. Raises
        LeaseExpiredError, TopicChangedError, LandingError and KafkaException.
        """
        began = self._clock()
        if began - declared_at >= self._lease_seconds:
            # Suspended meanwhile, perhaps: another loader may have landed it, long enough ago for
            # ClickHouse to have forgotten the token.
            raise LeaseExpiredError
        repaired = 0
        identity = self._identify(batch.partition.topic)
        if identity != TopicIdentity(batch.partition.cluster, batch.partition.topic_id):
            # Seen only now, so these messages may be the old topic's or the new one's.
            raise TopicChangedError(
                f"topic {batch.partition.topic} was made anew: it was "
                f"{batch.partition.topic_id!r}, now it is {identity.topic_id!r}"
            )

        def insert(offsets: Collection[int], token: str) -> None:
            nonlocal repaired
            if token != batch.token:
                repaired += len(offsets)
            self._sink.insert(batch if len(offsets) == len(batch) else batch.only(offsets), token)

        land_exactly_once(
            batch.offsets,
            batch.token,
            missing=lambda: self._sink.missing(batch.partition, batch.offsets),
            insert=insert,
            is_new=not is_known,
        )
        self._crash_point("after_insert")
        return Landed(self._clock() - began, repaired)
