"""Reading and writing Kafka for the command line: one record out, a topic read to its end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

from events.cluster import Cluster
from rowcast.errors import NotRunningError

_Result = TypeVar("_Result")
_REQUEST_TIMEOUT_MS = 10_000
_FETCH_WAIT_MS = 200
_BROKER_POLL_S = 0.1
# As our own topics take it.
_REQUEST_BYTES_MAX = 16 * 1024 * 1024


class Record(NamedTuple):
    """A record to write; without a value it removes what stands under its key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


async def write_record(cluster: Cluster, topic: str, key: bytes, value: bytes | None) -> None:
    """Write one record, in the partition Java clients choose, and wait until Kafka has it."""
    await write_records(cluster, [Record(topic, key, value)])


async def write_records(cluster: Cluster, records: Iterable[Record]) -> None:
    """Write records in their order and wait until Kafka has them all."""
    producer = AIOKafkaProducer(
        bootstrap_servers=cluster.bootstrap,
        enable_idempotence=True,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        max_request_size=_REQUEST_BYTES_MAX,
    )

    async def write() -> None:
        await producer.start()
        try:
            sent = [
                await producer.send(one.topic, one.value, one.key, headers=list(one.headers))
                for one in records
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    await _reached(cluster, write)


async def read_topic(cluster: Cluster, topic: str) -> list[ConsumerRecord]:
    """All committed records of a topic, in the order of their timestamps."""
    every = follow(cluster, topic_filter=(topic,), from_beginning=True, to_end=True)
    records = [record async for record in every]
    records.sort(key=lambda record: record.timestamp)
    return records


async def read_at(cluster: Cluster, place: TopicPartition, offset: int) -> ConsumerRecord | None:
    """The committed record at an offset; None where it is not there any more."""
    every = follow(cluster, topic_filter=(place.topic,), from_beginning=True, to_end=True)
    async with aclosing(every):
        async for record in every:
            if (record.partition, record.offset) == (place.partition, offset):
                return record
    return None


async def topic_names(cluster: Cluster) -> frozenset[str]:
    """All topics that there are."""
    async with _catalogue(cluster) as catalogue:
        return frozenset(await _reached(cluster, catalogue.list_topics))


async def follow(
    cluster: Cluster,
    *,
    topic_filter: tuple[str, ...] | str,
    from_beginning: bool,
    to_end: bool = False,
    since_ms: int | None = None,
) -> AsyncGenerator[ConsumerRecord]:
    """Committed records of topics, named or as a pattern, as they come.

    With `to_end` it stops at the end that the topics have when it begins; with `since_ms` it begins
    at each partition's first record written then or later.
    """
    async with _catalogue(cluster) as catalogue, _reader(cluster) as consumer:
        partitions = await _reached(cluster, lambda: _partitions(catalogue, topic_filter))
        ends = await _assign(consumer, partitions, from_beginning=from_beginning)
        if since_ms is not None and partitions:
            ends = await _seek_time(consumer, partitions, since_ms)
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


@asynccontextmanager
async def _catalogue(cluster: Cluster) -> AsyncGenerator[AIOKafkaAdminClient]:
    """A client that knows a broker to ask.

    Kafka, when it comes back, answers before it counts its brokers as there; a client that began in
    between knows none and would not ask again for minutes, so another takes its place.
    """

    async def connect() -> AIOKafkaAdminClient:
        while True:
            client = AIOKafkaAdminClient(
                bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
            )
            try:
                await client.start()
                await client.list_topics()
            except BaseException as error:
                await client.close()
                if not isinstance(error, NodeNotReadyError):
                    raise
            else:
                return client
            await asyncio.sleep(_BROKER_POLL_S)

    client = await _reached(cluster, connect)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _reader(cluster: Cluster) -> AsyncGenerator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )
    try:
        await _reached(cluster, consumer.start)
        yield consumer
    finally:
        # Its tasks have to have begun before they can be ended.
        await asyncio.sleep(0)
        await consumer.stop()


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


async def _seek_time(
    consumer: AIOKafkaConsumer, partitions: set[TopicPartition], since_ms: int
) -> dict[TopicPartition, int]:
    """Go to a time; returns those that hold something from then on, with their ends."""
    ends = await consumer.end_offsets(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    starts: dict[TopicPartition, int] = {}
    for part in partitions:
        place = found.get(part)
        starts[part] = ends[part] if place is None else place.offset
        consumer.seek(part, starts[part])
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
