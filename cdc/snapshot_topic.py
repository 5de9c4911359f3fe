"""The topic `rowcast.snapshots`: read to its end at the start, then followed for requests.

What capture writes there it writes with its groups; this module only reads.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from cdc.errors import PublishError
from cdc.snapshot_state import SnapshotKey, SnapshotStates
from events.cluster import Cluster

# Longer than another source's transaction can stay open on the topic.
_READ_TIMEOUT_S = 90.0
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
        self._bootstrap = cluster.bootstrap
        self.states = SnapshotStates(source)

    async def open(self) -> SnapshotStates:
        """All that is committed now.

        Raises PublishError where the topic cannot be read to its end.
        """
        try:
            end = await self._end()
            await self._consumer.start()
            self._consumer.assign([self._partition])
            await self._consumer.seek_to_beginning(self._partition)
            async with asyncio.timeout(_READ_TIMEOUT_S):
                while await self._consumer.position(self._partition) < end:
                    for key, value in await self._fetch():
                        self.states.take(key, value)
        except (TimeoutError, KafkaError) as error:
            raise PublishError(
                f"the topic {self._partition.topic} could not be read to its end: {error!r}"
            ) from error
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

    async def _end(self) -> int:
        # Of uncommitted reading: our own last record may stand behind another source's open
        # transaction, which hides it from read_committed until that ends.
        probe = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level="read_uncommitted",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
        )
        try:
            await probe.start()
            return (await probe.end_offsets([self._partition]))[self._partition]
        finally:
            await probe.stop()

    async def _fetch(self) -> list[tuple[bytes, bytes | None]]:
        batches = await self._consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
        return [
            (record.key, record.value)
            for records in batches.values()
            for record in records
            if record.key is not None
        ]
