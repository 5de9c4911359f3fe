"""Reads listeners' state from `rowcast.kv` into the table: whole before the first event is
routed, then what other routers write.
"""

from __future__ import annotations

import logging

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events.cluster import Cluster
from router.errors import RoutingStoppedError, StateError
from router.state_table import StateTable

_log = logging.getLogger(__name__)


class StateFeed:
    """Follows the topic into `table`."""

    def __init__(self, cluster: Cluster, table: StateTable) -> None:
        self._cluster = cluster
        self._partition = TopicPartition(cluster.topics.kv, 0)
        self._table = table
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    async def start(self) -> None:
        """Read all that there is.

        Not only up to the first open transaction, which may hide what a router that ended has
        committed: it is waited for.
        """
        try:
            end = await self._written_end()
            await self._consumer.start()
            self._consumer.assign([self._partition])
            while await self._consumer.position(self._partition) < end:
                await self._read(timeout_ms=200)
        except KafkaError as error:
            raise RoutingStoppedError(f"listeners' state cannot be read: {error!r}") from error

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._read(timeout_ms=1_000)
            except KafkaError as error:
                raise RoutingStoppedError(f"listeners' state is not read: {error!r}") from error

    async def close(self) -> None:
        """Stop reading."""
        await self._consumer.stop()

    async def _written_end(self) -> int:
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._cluster.bootstrap, isolation_level="read_uncommitted"
        )
        try:
            await reader.start()
            return (await reader.end_offsets([self._partition]))[self._partition]
        finally:
            await reader.stop()

    async def _read(self, timeout_ms: int) -> None:
        batches = await self._consumer.getmany(timeout_ms=timeout_ms)
        for records in batches.values():
            for record in records:
                try:
                    self._table.read(record.key or b"", record.value, record.offset)
                except StateError as error:
                    _log.error("a record of listeners' state is passed over: %s", error)
