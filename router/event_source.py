"""The consumer of all routed topics, and what of each partition is finished.

A rebalance that leaves a partition with us, as one does whenever a topic is created, leaves its
ledger and its runs alone. A partition that comes from elsewhere begins from what the group has
committed, the metadata of the commit included.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from events.cluster import Cluster
from router.errors import RoutingStoppedError
from router.ledger import PartitionLedger

_log = logging.getLogger(__name__)

_MAX_RECORDS = 1_000


class EventSource(ConsumerRebalanceListener):
    """Hands out records of the partitions it is assigned, and keeps their ledgers.

    `before_revoke` is awaited before partitions are given up; `on_taken(partition, committed)`
    tells that a partition begins anew.
    """

    def __init__(
        self,
        cluster: Cluster,
        instance: str,
        before_revoke: Callable[[], Awaitable[None]],
        on_taken: Callable[[TopicPartition, tuple[int, str] | None], None],
    ) -> None:
        prefix = cluster.topics.prefix
        self._group_id = cluster.router_group
        self._pattern = cluster.topics.routed_pattern(cluster.sources)
        self._before_revoke = before_revoke
        self._on_taken = on_taken
        self._ledgers: dict[TopicPartition, PartitionLedger] = {}
        self._failure: RoutingStoppedError | None = None
        self._assigned_once = False
        self._admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            client_id=f"{prefix}-router-{instance}",
            group_id=self._group_id,
            # A restarted router takes its own place at once, not after a session timeout.
            group_instance_id=f"{prefix}-router-{instance}",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=cluster.metadata_max_age_ms,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            max_partition_fetch_bytes=1024 * 1024,
        )

    @property
    def is_assigned(self) -> bool:
        """Whether the group has given us partitions once."""
        return self._assigned_once

    def ledgers(self) -> Mapping[TopicPartition, PartitionLedger]:
        """The partitions we hold."""
        return self._ledgers

    async def start(self) -> None:
        """Join the group."""
        try:
            await self._admin.start()
            await self._consumer.start()
        except KafkaError as error:
            raise RoutingStoppedError(f"the group cannot be joined: {error!r}") from error
        self._consumer.subscribe(pattern=self._pattern, listener=self)

    async def close(self) -> None:
        """Leave; what runs is not waited for."""
        await self._consumer.stop()
        await self._admin.close()

    async def fetch(self, timeout_ms: int) -> Mapping[TopicPartition, list[ConsumerRecord]]:
        """Records of partitions that are not paused, in order within a partition."""
        try:
            batches = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=_MAX_RECORDS)
        except KafkaError as error:
            raise RoutingStoppedError(f"events cannot be read: {error!r}") from error
        if self._failure is not None:
            raise self._failure
        return {part: records for part, records in batches.items() if part in self._ledgers}

    def pause(self, partition: TopicPartition) -> None:
        """Fetch nothing of a partition until it is resumed."""
        self._consumer.pause(partition)

    def resume(self, partition: TopicPartition) -> None:
        """Fetch of it again."""
        if partition in self._consumer.assignment():
            self._consumer.resume(partition)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Commit what is finished while the partitions are ours."""
        if list(revoked) and self._failure is None:
            await self._before_revoke()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Take the partitions in."""
        try:
            await self._take(set(assigned))
        except (KafkaError, OSError) as error:
            # aiokafka only logs what is raised here; the next fetch raises it.
            self._failure = RoutingStoppedError(f"committed offsets cannot be read: {error!r}")
            self._failure.__cause__ = error
        self._assigned_once = True

    async def _take(self, assigned: set[TopicPartition]) -> None:
        for partition in set(self._ledgers) - assigned:
            del self._ledgers[partition]
        committed = await self._committed(assigned)
        starts = await self._consumer.beginning_offsets(assigned) if assigned else {}
        for partition in assigned:
            found = committed.get(partition)
            offset, metadata = (found.offset, found.metadata) if found else (-1, "")
            ledger = self._ledgers.get(partition)
            if ledger is None or offset > ledger.watermark:
                # Kafka may have thrown away by retention what was committed last.
                begin = max(offset, starts[partition])
                ledger = PartitionLedger(begin, metadata if begin == offset else "")
                self._ledgers[partition] = ledger
                self._on_taken(partition, (offset, metadata) if offset >= 0 else None)
            self._consumer.seek(partition, ledger.next_offset)

    async def _committed(
        self, assigned: set[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata]:
        if not assigned:
            return {}
        return await self._admin.list_consumer_group_offsets(
            self._group_id, partitions=sorted(assigned)
        )
