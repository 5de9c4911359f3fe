"""Reading and writing Kafka for the command line: one record out, a topic read to its end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from events.cluster import Cluster
from rowcast.errors import NotRunningError

_Result = TypeVar("_Result")
_REQUEST_TIMEOUT_MS = 10_000
_FETCH_WAIT_MS = 200


async def write_record(
    cluster: Cluster,
    topic: str,
    key: bytes,
    value: bytes | None,
) -> None:
    """Write one record, in the partition Java clients choose, and wait until Kafka has it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap,
        enable_idempotence=True,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )

    async def write() -> None:
        await producer.start()
        try:
            await producer.send_and_wait(topic, value=value, key=key)
        finally:
            await producer.stop()

    await _reached(cluster, write)


async def read_topic(cluster: Cluster, topic: str) -> list[ConsumerRecord]:
    """All committed records of a topic, in the order of their timestamps."""
    every = follow(cluster, topic_filter=(topic,), from_beginning=True, to_end=True)
    records = [record async for record in every]
    records.sort(key=lambda record: record.timestamp)
    return records


async def follow(
    cluster: Cluster,
    *,
    topic_filter: tuple[str, ...] | str,
    from_beginning: bool,
    to_end: bool = False,
) -> AsyncGenerator[ConsumerRecord]:
    """Committed records of topics, named or as a pattern, as they come.

    With `to_end` it stops at the end that the topics have when it begins.
    """
    catalogue = AIOKafkaAdminClient(
        bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await _reached(cluster, catalogue.start)
        await _reached(cluster, consumer.start)
        partitions = await _partitions(catalogue, topic_filter)
        ends = await _assign(consumer, partitions, from_beginning=from_beginning)
        looked_s = time.monotonic()
        while not to_end or ends:
            batches = await consumer.getmany(timeout_ms=_FETCH_WAIT_MS)
            for records in batches.values():
                for record in records:
                    yield record
            if to_end:
                positions = {part: await consumer.position(part) for part in ends}
                ends = {part: end for part, end in ends.items() if positions[part] < end}
            elif time.monotonic() - looked_s > cluster.metadata_max_age_ms / 1_000:
                # A topic made since is read from its beginning, so that nothing of it is missed.
                new = await _partitions(catalogue, topic_filter) - consumer.assignment()
                if new:
                    await _assign(consumer, new, from_beginning=True)
                looked_s = time.monotonic()
    finally:
        await consumer.stop()
        await catalogue.close()


async def _partitions(
    catalogue: AIOKafkaAdminClient, topic_filter: tuple[str, ...] | str
) -> set[TopicPartition]:
    found = await catalogue.list_topics()
    if isinstance(topic_filter, str):
        pattern = re.compile(topic_filter)
        topics = [topic for topic in found if pattern.fullmatch(topic)]
    else:
        topics = [topic for topic in topic_filter if topic in found]
    if not topics:
        return set()
    described = await catalogue.describe_topics(topics)
    return {
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        for partition in topic["partitions"]
    }


async def _assign(
    consumer: AIOKafkaConsumer, new: set[TopicPartition], *, from_beginning: bool
) -> dict[TopicPartition, int]:
    """Add partitions to what is read; returns those that hold something, with their ends."""
    if not new:
        return {}
    positions = {part: await consumer.position(part) for part in consumer.assignment()}
    consumer.assign(new | set(positions))
    ends = await consumer.end_offsets(new)
    starts = await consumer.beginning_offsets(new) if from_beginning else ends
    for part, offset in (positions | starts).items():
        consumer.seek(part, offset)
    return {part: end for part, end in ends.items() if end > starts[part]}


async def _reached(cluster: Cluster, action: Callable[[], Awaitable[_Result]]) -> _Result:
    try:
        async with asyncio.timeout(_REQUEST_TIMEOUT_MS / 1_000 * 2):
            return await action()
    except (KafkaConnectionError, TimeoutError, OSError) as error:
        raise NotRunningError(
            f"Kafka was not reached at {cluster.bootstrap} ({error or 'no answer'}); start the "
            "installation with `rowcast up`, or mend kafka.bootstrap in rowcast.toml"
        ) from error
    except KafkaError as error:
        raise NotRunningError(f"Kafka at {cluster.bootstrap} refused: {error!r}") from error
