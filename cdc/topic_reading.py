"""Reading a topic to its end, as a start does with what earlier ones left there.

The end is that of uncommitted reading: another source's open transaction hides what lies behind
its first record from read_committed, our own last record among it, until it ends.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from cdc.errors import PublishError
from events.cluster import Cluster

# Longer than another source's transaction can stay open on the topic.
_TIMEOUT_S = 90.0
_REQUEST_TIMEOUT_MS = 10_000


async def read_to_end(cluster: Cluster, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All committed records, in order within each partition.

    Raises PublishError where the topic cannot be read to its end, and KafkaError.
    """
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
    held = [part for part in wanted if ends[part] > starts[part]]
    if not held:
        return []
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    found: list[ConsumerRecord] = []
    try:
        await consumer.start()
        consumer.assign(held)
        for part in held:
            consumer.seek(part, starts[part])
        async with asyncio.timeout(_TIMEOUT_S):
            for part in held:
                while await consumer.position(part) < ends[part]:
                    for records in (await consumer.getmany(timeout_ms=100)).values():
                        found += records
    except TimeoutError as error:
        raise PublishError(
            f"the topic {topic} could not be read to its end within {_TIMEOUT_S:.0f} s: another "
            "transaction on it stays open; `kafka-transactions.sh find-hanging` names it"
        ) from error
    finally:
        await consumer.stop()
    return found
