"""One transactional producer: writes the batches of a group, then commits them when told to.

A broker takes a moment to end a transaction, and for so long its producer can begin no other. So
the publisher has two lanes and writes on one while the other commits. Start fences an older
producer of the same transactional id and ends what it left open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.producer.message_accumulator import BatchBuilder

from cdc.topic_creation import MAX_RECORD_BYTES
from events.cluster import Cluster

# A broker answers CONCURRENT_TRANSACTIONS while it still writes the markers of the transaction
# before, for about 1 ms. aiokafka then waits this long, 20 ms by default, which would be most of
# a small transaction's latency. It is a module constant, so it is set once, here.
aiokafka_sender.BACKOFF_OVERRIDE = 0.001

# Below Kafka's default limit of a batch (max.message.bytes, 1,048,588), so that only a record
# that is itself too large can be refused on a topic with default settings.
BATCH_BYTES = 1_000_000
_REQUEST_TIMEOUT_MS = 30_000
TIMEOUT_S = 60.0
"""Kafka ends a transaction after this long by itself, so waiting longer for it is of no use."""
_METADATA_MAX_AGE_MS = 30_000

Batches = dict[TopicPartition, list[BatchBuilder]]
"""By partition, in the order in which they must be sent."""


class TransactionLane:
    """Begins with `write`, ends with `commit`; each raises KafkaError, and is then of no more use.

    aiokafka says by an AssertionError that a producer had failed before, and by IllegalOperation
    that it has while it writes.
    """

    def __init__(self, cluster: Cluster, source: str, suffix: str) -> None:
        prefix = cluster.topics.prefix
        self._producer = AIOKafkaProducer(
            bootstrap_servers=cluster.bootstrap,
            client_id=f"{prefix}-cdc-{source}{suffix}",
            transactional_id=f"{prefix}.cdc.{source}{suffix}",
            transaction_timeout_ms=int(TIMEOUT_S * 1_000),
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )
        self.is_started = False

    async def start(self) -> None:
        """Connect, and fence an older producer."""
        self.is_started = True
        await self._producer.start()

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(await self._producer.partitions_for(topic))

    async def write(self, batches: Batches) -> None:
        """Begin a transaction and write; returns once every batch is known to be written."""
        producer = self._producer
        await producer.begin_transaction()
        _expect_failure_elsewhere(producer)
        acknowledged: list[Awaitable[object]] = []
        # First one batch of each partition, so that one request adds all partitions to the
        # transaction and one carries all first batches; the accumulator holds one a partition.
        for partition, queue in batches.items():
            acknowledged.append(
                await producer.send_batch(queue[0], partition.topic, partition=partition.partition)
            )

        async def send_others(partition: TopicPartition, others: list[BatchBuilder]) -> None:
            for batch in others:
                acknowledged.append(  # noqa: PERF401 - each send waits for room
                    await producer.send_batch(batch, partition.topic, partition=partition.partition)
                )

        others = [
            send_others(partition, queue[1:])
            for partition, queue in batches.items()
            if len(queue) > 1
        ]
        # Every batch must be known to be written before the commit: aiokafka would commit the
        # others of a transaction in which one was refused.
        outcomes = await asyncio.gather(*others, return_exceptions=True)
        outcomes += await asyncio.gather(*acknowledged, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                _look_at_failures(producer)
                raise outcome

    async def commit(self) -> None:
        """End the transaction; what was written becomes visible."""
        await self._producer.commit_transaction()

    async def close(self) -> None:
        """Disconnect; a transaction that is open is left to the next start to abort."""
        await self._producer.stop()


def _expect_failure_elsewhere(producer: AIOKafkaProducer) -> None:
    """Take note of how the transaction ends, since a batch's own failure is what gets raised.

    aiokafka fails the transaction's future as well, and asyncio complains of failures that
    nobody looks at.
    """
    manager = producer._txn_manager  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public way to the future
    manager.wait_for_transaction_end().add_done_callback(
        lambda end: None if end.cancelled() else end.exception()
    )


def _look_at_failures(producer: AIOKafkaProducer) -> None:
    """Look at what else failed with a batch, for the same reason as above."""
    accumulator = producer._message_accumulator  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    for batches in accumulator._batches.values():  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        for batch in batches:
            waiter = batch._drain_waiter  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            if waiter.done() and not waiter.cancelled():
                waiter.exception()
