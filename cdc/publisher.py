"""One group of changes and its progress, in one Kafka transaction.

This is what makes capture exactly once under read_committed: records and progress record become
visible together or not at all. Starting fences an older capture of the same source first and
reads progress second, so that nothing can be written between the two. After any failure the
publisher is of no more use: the process ends, and the next one goes on from Kafka's state.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Iterable

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.producer.message_accumulator import BatchBuilder

from cdc.change_group import RECORD_OVERHEAD_BYTES, ChangeGroup, Record
from cdc.encoded_batch import encode_batches
from cdc.errors import FencedError, PublishError, RecordTooLargeError
from cdc.ownership import Owner, decode_owner, owner_key
from cdc.progress import progress_key
from cdc.topic_creation import MAX_RECORD_BYTES, ensure_own_topics, ensure_topics, unreachable
from cdc.topic_reading import read_to_end
from events.cluster import Cluster

_log = logging.getLogger(__name__)

# A broker answers CONCURRENT_TRANSACTIONS while it still writes the markers of the transaction
# before, for about 1 ms. aiokafka then waits this long, 20 ms by default, which would be most of
# a small transaction's latency. It is a module constant, so it is set once, here.
aiokafka_sender.BACKOFF_OVERRIDE = 0.001

# Below Kafka's default limit of a batch (max.message.bytes, 1,048,588), so that only a record
# that is itself too large can be refused on a topic with default settings.
_BATCH_BYTES = 1_000_000
_REQUEST_TIMEOUT_MS = 30_000
_TRANSACTION_TIMEOUT_MS = 60_000
_METADATA_MAX_AGE_MS = 30_000
_CLOSE_TIMEOUT_S = 5.0
_OWNER_WAIT_S = 5.0
_OWNER_SHORT_WAIT_S = 1.0
_OWNER_POLL_S = 0.1


class Publisher:
    """The transactional producer of one source. Not for use by two tasks at once."""

    def __init__(self, cluster: Cluster, source: str) -> None:
        self._cluster = cluster
        self._source = source
        self._key = progress_key(source)
        self._owner = Owner(secrets.token_hex(8), socket.gethostname(), os.getpid())
        self._producer: AIOKafkaProducer | None = None
        self._known: set[str] = {cluster.topics.progress}
        self._found: dict[bytes | None, bytes | None] = {}

    async def start(self) -> bytes | None:
        """Take over from an older capture of the source; the value of its last progress record.

        None where there is no such record. Raises CaptureConfigError where Kafka is not reached
        and PublishError where it refuses.
        """
        await ensure_own_topics(self._cluster)
        producer = AIOKafkaProducer(
            bootstrap_servers=self._cluster.bootstrap,
            client_id=f"{self._cluster.topics.prefix}-cdc-{self._source}",
            transactional_id=f"{self._cluster.topics.prefix}.cdc.{self._source}",
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
        )
        self._producer = producer
        try:
            await producer.start()
            await self._take_over(producer)
            self._found = await self._last_values()
            return self._found.get(self._key)
        except ProducerFenced as error:
            raise await self._failure(error) from error
        except KafkaConnectionError as error:
            raise unreachable(self._cluster, error) from error
        except KafkaError as error:
            raise PublishError(f"the producer could not start: {error!r}") from error

    def found(self, key: bytes) -> bytes | None:
        """The value of a key's last record on the progress topic, as it was at the start."""
        return self._found.get(key)

    async def told(self, topic: str) -> list[bytes]:
        """The values of a topic's committed records, for what an earlier capture told there."""
        count = len(await self._started().partitions_for(topic))
        records = await read_to_end(self._cluster, topic, count)
        return [record.value for record in records if record.value is not None]

    async def publish(self, group: ChangeGroup, progress: bytes) -> None:
        """Write a group and the progress after it; returns once they are committed.

        Raises FencedError, RecordTooLargeError or PublishError; the process should then end.
        """
        producer = self._started()
        await self._know_topics(group)
        try:
            batches = await self._batches(producer, group)
            await producer.begin_transaction()
            _expect_failure_elsewhere(producer)
            await self._send(producer, batches, progress)
            await producer.commit_transaction()
        except MessageSizeTooLargeError as error:
            raise self._refused_as_too_large(group) from error
        except (KafkaError, AssertionError) as error:
            raise await self._failure(error) from error

    async def close(self) -> None:
        """Close the producer; a transaction that is open is left to the next start to abort."""
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await producer.stop()
        except (KafkaError, TimeoutError) as error:
            _log.warning("closing the producer of %s: %r", self._source, error)

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise PublishError("the publisher is not started or already closed")
        return self._producer

    async def _know_topics(self, group: ChangeGroup) -> None:
        new = group.records.keys() - self._known
        if new:
            await ensure_topics(self._cluster, new)
            self._known |= new

    async def _batches(
        self, producer: AIOKafkaProducer, group: ChangeGroup
    ) -> dict[TopicPartition, list[BatchBuilder]]:
        batches: dict[TopicPartition, list[BatchBuilder]] = {}
        for topic, records in group.records.items():
            count = len(await producer.partitions_for(topic))
            for partition, batch in encode_batches(records, count, _BATCH_BYTES):
                if batch.size() > MAX_RECORD_BYTES:
                    _check_sizes(topic, records)
                batches.setdefault(TopicPartition(topic, partition), []).append(batch)
            # Encoding a large group must not starve the source's feedback timer.
            await asyncio.sleep(0)
        return batches

    async def _send(
        self,
        producer: AIOKafkaProducer,
        batches: dict[TopicPartition, list[BatchBuilder]],
        progress: bytes,
    ) -> None:
        last = producer.create_batch()
        last.append(timestamp=int(time.time() * 1_000), key=self._key, value=progress)
        queues = {partition: list(queue) for partition, queue in batches.items()}
        queues.setdefault(TopicPartition(self._cluster.topics.progress, 0), []).append(last)
        acknowledged: list[Awaitable[object]] = []
        # First one batch of each partition, so that one request adds all partitions to the
        # transaction and one carries all first batches; the accumulator holds one a partition.
        for partition, queue in queues.items():
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
            for partition, queue in queues.items()
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

    async def _take_over(self, producer: AIOKafkaProducer) -> None:
        await producer.begin_transaction()
        await producer.send_and_wait(
            self._cluster.topics.progress,
            self._owner.encode(),
            owner_key(self._source),
            partition=0,
        )
        await producer.commit_transaction()

    async def _failure(self, error: Exception) -> PublishError:
        """What to raise for a failure of Kafka, which may be that another has taken over.

        A broker that is asked to end a transaction while it fences its producer may answer with
        any error, so the last owner is asked for after all of them.
        """
        fenced = isinstance(error, ProducerFenced)
        deadline = time.monotonic() + (_OWNER_WAIT_S if fenced else _OWNER_SHORT_WAIT_S)
        try:
            while (owner := await self._other_owner()) is None and time.monotonic() < deadline:
                # A newer one fences first and says so a moment later.
                await asyncio.sleep(_OWNER_POLL_S)
        except (KafkaError, OSError):
            owner = None
        if owner is not None:
            return FencedError(
                f"another capture of the source {self._source!r} has started on this cluster and "
                f"taken over, process {owner.pid} on {owner.host}; run one capture a source, or "
                "give one of the sources another name"
            )
        if fenced:
            return PublishError(
                f"Kafka ended a transaction of {self._source!r} that stayed open for too long"
            )
        if isinstance(error, AssertionError):
            # How aiokafka says that its producer failed fatally while no transaction was open.
            return PublishError("the producer had failed before this group")
        return PublishError(f"a group was not committed to Kafka: {error!r}")

    async def _last_values(self) -> dict[bytes | None, bytes | None]:
        """The value of each key's last record on the progress topic, None where it is gone."""
        records = await read_to_end(self._cluster, self._cluster.topics.progress, 1)
        return {record.key: record.value for record in records}

    async def _other_owner(self) -> Owner | None:
        value = (await self._last_values()).get(owner_key(self._source))
        owner = decode_owner(value) if value is not None else None
        return owner if owner != self._owner else None

    def _refused_as_too_large(self, group: ChangeGroup) -> RecordTooLargeError:
        largest = max(
            ((topic, record) for topic, records in group.records.items() for record in records),
            key=lambda item: _size_bytes(item[1]),
            default=None,
        )
        if largest is None:
            return RecordTooLargeError("Kafka refused the progress record as too large")
        topic, record = largest
        return RecordTooLargeError(
            f"Kafka refused a record as too large; the largest of the group has "
            f"{_size_bytes(record)} bytes, topic {topic}, key {record[0]!r}; raise "
            "max.message.bytes of the topic and message.max.bytes of the broker "
            f"(Rowcast writes up to {MAX_RECORD_BYTES})"
        )


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


def _size_bytes(record: Record) -> int:
    key, value, headers, _ = record
    size = RECORD_OVERHEAD_BYTES + len(value or b"") + len(key or b"")
    return size + sum(len(name) + len(content) for name, content in headers)


def _check_sizes(topic: str, records: Iterable[Record]) -> None:
    for record in records:
        size = _size_bytes(record)
        if size > MAX_RECORD_BYTES:
            raise RecordTooLargeError(
                f"a record of topic {topic}, key {record[0]!r}, has {size} bytes, expected at most "
                f"{MAX_RECORD_BYTES} (max_request_size of the producer, max.message.bytes of the "
                "topic, message.max.bytes of the broker); leave the large column out of the "
                "publication, or keep such values outside the row"
            )
