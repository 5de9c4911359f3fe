"""The topic `rowcast.snapshots`: read to its end at the start, then followed for requests.

What capture writes there it writes with its groups; this module only reads.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from cdc.errors import PublishError
from cdc.snapshot_state import SnapshotKey, SnapshotStates
from cdc.topic_reading import read_to_end
from events.cluster import Cluster

_REQUEST_TIMEOUT_MS = 10_000
_FETCH_WAIT_MS = 500


class SnapshotTopic:
    """The records of one source, from `open` on."""

    def __init__(self, cluster: Cluster, source: str) -> None:
        self._partition = TopicPartition(cluster.topics.snapshots, 0)
        self._source = source
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            isolation_level="read_committed",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        self._cluster = cluster
        self.states = SnapshotStates(source)

    async def open(self) -> SnapshotStates:
        """All that is committed now.

        Raises PublishError where the topic cannot be read to its end.
        """
        try:
            records = await read_to_end(self._cluster, self._partition.topic, 1)
            await self._consumer.start()
            self._consumer.assign([self._partition])
            if records:
                self._consumer.seek(self._partition, records[-1].offset + 1)
            else:
                await self._consumer.seek_to_beginning(self._partition)
            # Has the connections made: a consumer stopped while it makes one leaves it open.
            await self._consumer.end_offsets([self._partition])
        except KafkaError as error:
            raise PublishError(f"{self._partition.topic} could not be read: {error!r}") from error
        for record in records:
            if record.key is not None:
                self.states.take(record.key, record.value)
        return self.states

    async def next_requests(self) -> bool:
        """Wait a while for new records; whether a request for this source was among them."""
        asked = False
        for key, value in await self._fetch():
            place = SnapshotKey.decode(key)
            # All else was written by this capture, which knows its own state better.
            if place is not None and place.request is not None:
                self.states.take(key, value)
                asked |= place.source == self._source
        return asked

    async def close(self) -> None:
        """Leave Kafka."""
        await self._consumer.stop()

    async def _fetch(self) -> list[tuple[bytes, bytes | None]]:
        batches = await self._consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
        return [
            (record.key, record.value)
            for records in batches.values()
            for record in records
            if record.key is not None
        ]
