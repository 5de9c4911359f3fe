"""A compacted topic of one partition, read whole before anything is routed, then followed.

Whole means up to where anybody has written, not up to the first open transaction, which may hide
what a router that ended has committed: it is waited for.
"""

from __future__ import annotations

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from events.cluster import Cluster
from router.errors import RoutingStoppedError

_START_WAIT_MS = 200
_FOLLOW_WAIT_MS = 1_000


class CompactedTopic:
    """Gives `take` each committed record in order; `what` it holds stands in errors."""

    def __init__(
        self, cluster: Cluster, topic: str, what: str, take: Callable[[ConsumerRecord], None]
    ) -> None:
        self._bootstrap = cluster.bootstrap
        self._partition = TopicPartition(topic, 0)
        self._what = what
        self._take = take
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    async def read_whole(self) -> None:
        """Read all that there is; raises RoutingStoppedError where Kafka fails."""
        try:
            end = await self._written_end()
            await self._consumer.start()
            self._consumer.assign([self._partition])
            while await self._consumer.position(self._partition) < end:
                await self._read(_START_WAIT_MS)
        except KafkaError as error:
            raise RoutingStoppedError(f"{self._what} cannot be read: {error!r}") from error

    async def read_more(self) -> bool:
        """Wait a moment for what is new, and whether there was any.

        Raises RoutingStoppedError where Kafka fails.
        """
        try:
            return await self._read(_FOLLOW_WAIT_MS)
        except KafkaError as error:
            raise RoutingStoppedError(f"{self._what} cannot be followed: {error!r}") from error

    async def close(self) -> None:
        """Stop reading."""
        await self._consumer.stop()

    async def _written_end(self) -> int:
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, isolation_level="read_uncommitted"
        )
        try:
            await reader.start()
            return (await reader.end_offsets([self._partition]))[self._partition]
        finally:
            await reader.stop()

    async def _read(self, wait_ms: int) -> bool:
        batches = await self._consumer.getmany(timeout_ms=wait_ms)
        for records in batches.values():
            for record in records:
                self._take(record)
        return bool(batches)
