"""Reading a topic to its end, as a start does with what earlier ones left there.

The end is that of uncommitted reading: another source's open transaction hides what lies behind
its first record from read_committed, our own last record among it, until it ends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from cdc.errors import PublishError
from events.cluster import Cluster

# Longer than another source's transaction can stay open on the topic.
_TIMEOUT_S = 90.0
_REQUEST_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class TopicExtent:
    """Between which offsets each partition of a topic holds records."""

    starts: dict[TopicPartition, int]
    ends: dict[TopicPartition, int]

    @property
    def held(self) -> list[TopicPartition]:
        """Partitions that hold any."""
        return [part for part, end in self.ends.items() if end > self.starts[part]]


async def topic_extent(cluster: Cluster, topic: str, partitions: int) -> TopicExtent:
    """The extent that a topic has now; raises KafkaError."""
    wanted = [TopicPartition(topic, number) for number in range(partitions)]
    probe = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_uncommitted",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await probe.start()
        ends = await probe.end_offsets(wanted)
        starts = await probe.beginning_offsets(wanted)
    finally:
        await probe.stop()
    return TopicExtent(starts, ends)


async def read_to_end(cluster: Cluster, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All committed records, in order within each partition.

    Raises PublishError where the topic cannot be read to its end, and KafkaError.
    """
    extent = await topic_extent(cluster, topic, partitions)
    async with aclosing(committed_records(cluster, topic, extent)) as batches:
        return [record async for batch in batches for record in batch]


async def committed_records(
    cluster: Cluster, topic: str, extent: TopicExtent
) -> AsyncGenerator[list[ConsumerRecord]]:
    """The committed records of an extent, in batches, in order within each partition.

    Raises PublishError where nothing more of it can be read, and KafkaError.
    """
    held = extent.held
    if not held:
        return
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        consumer.assign(held)
        for part in held:
            consumer.seek(part, extent.starts[part])
        positions = dict(extent.starts)
        moved_s = time.monotonic()
        while any(positions[part] < extent.ends[part] for part in held):
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                yield batch
            now_s = time.monotonic()
            before, positions = positions, {part: await consumer.position(part) for part in held}
            if positions != before:
                moved_s = now_s
            elif now_s - moved_s > _TIMEOUT_S:
                raise PublishError(
                    f"the topic {topic} could not be read further for {_TIMEOUT_S:.0f} s: another "
                    "transaction on it stays open; `kafka-transactions.sh find-hanging` names it"
                )
    finally:
        await consumer.stop()
