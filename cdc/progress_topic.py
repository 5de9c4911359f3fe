"""Reading the progress topic to its end, for the last record of one key.

The end is that of uncommitted reading: another source's open transaction hides what lies behind
its first record from read_committed, our own last record among it, until it ends.
"""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from cdc.errors import PublishError
from events.cluster import Cluster

# Longer than another source's transaction can stay open on the topic.
_TIMEOUT_S = 90.0
_REQUEST_TIMEOUT_MS = 10_000


async def last_record(cluster: Cluster, key: bytes) -> bytes | None:
    """The value of the last committed record of a key, None where there is none.

    Raises PublishError where the topic cannot be read to its end, and KafkaError.
    """
    partition = TopicPartition(cluster.topics.progress, 0)
    probe = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_uncommitted",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await probe.start()
        end = (await probe.end_offsets([partition]))[partition]
        start = (await probe.beginning_offsets([partition]))[partition]
    finally:
        await probe.stop()
    if end <= start:
        return None
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    found: bytes | None = None
    try:
        await consumer.start()
        consumer.assign([partition])
        consumer.seek(partition, start)
        async with asyncio.timeout(_TIMEOUT_S):
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        if record.key == key:
                            found = record.value
    except TimeoutError as error:
        raise PublishError(
            f"the topic {partition.topic} could not be read to its end within "
            f"{_TIMEOUT_S:.0f} s: another transaction on it stays open; "
            "`kafka-transactions.sh find-hanging` names it"
        ) from error
    finally:
        await consumer.stop()
    return found
