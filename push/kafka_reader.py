"""A consumer without a group that reads given partitions from given offsets, read_committed.

It never chooses an offset by itself: where Kafka no longer holds what is to be read, that is
raised (OffsetOutOfRangeError), for whoever reads to say so to whom it concerns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from events.cluster import Cluster
from push.positions import Extent, Partition

_TAIL_WAIT_MS = 500
_BEHIND_WAIT_MS = 5
_MAX_RECORDS = 500
_REQUEST_TIMEOUT_MS = 10_000
_PARTITION_BYTES = 1024 * 1024
_FETCH_BYTES = 8 * 1024 * 1024


class KafkaReader:
    """Partitions being read, each from where it was placed."""

    def __init__(self, cluster: Cluster, *, behind: bool = False) -> None:
        purpose = "catch-up" if behind else "tail"
        # Who is behind reads what is there; a wait of the broker's would only hold up the next
        # fetch, and with it the moment when it has caught up with those that go on writing.
        self._wait_ms = _BEHIND_WAIT_MS if behind else _TAIL_WAIT_MS
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            client_id=f"{cluster.topics.prefix}-push-{purpose}",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            metadata_max_age_ms=30_000,
            fetch_max_wait_ms=self._wait_ms,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            fetch_max_bytes=_FETCH_BYTES,
        )
        self.parts: set[Partition] = set()

    async def start(self) -> None:
        """Connect; raises KafkaError where there is no Kafka."""
        await self._consumer.start()

    async def close(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    def assign(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets, and no others."""
        self.parts = set(offsets)
        self._consumer.assign([TopicPartition(*part) for part in offsets])
        for part, offset in offsets.items():
            self.seek(part, offset)

    def seek(self, part: Partition, offset: int) -> None:
        """Go on with a partition elsewhere."""
        self._consumer.seek(TopicPartition(*part), offset)

    async def fetch(self) -> Mapping[TopicPartition, list[ConsumerRecord]]:
        """What has come of any partition, within half a second."""
        return await self._consumer.getmany(timeout_ms=_TAIL_WAIT_MS, max_records=_MAX_RECORDS)

    async def position(self, part: Partition) -> int:
        """The offset that a partition is read from next, beyond markers of transactions."""
        return await self._consumer.position(TopicPartition(*part))

    async def extents(self, parts: Collection[Partition]) -> dict[Partition, Extent]:
        """What Kafka holds of partitions that can be read now; the end is the last stable one."""
        asked = [TopicPartition(*part) for part in parts]
        if not asked:
            return {}
        begins, ends = await asyncio.gather(
            self._consumer.beginning_offsets(asked), self._consumer.end_offsets(asked)
        )
        return {_plain(part): Extent(begins[part], ends[part]) for part in asked}


def out_of_range(error: OffsetOutOfRangeError) -> list[Partition]:
    """The partitions that an error names."""
    return [_plain(part) for part in cast("dict[TopicPartition, int]", error.args[0])]


def _plain(part: TopicPartition) -> Partition:
    return part.topic, part.partition
