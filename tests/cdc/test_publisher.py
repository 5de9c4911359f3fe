from __future__ import annotations

import asyncio
import gc
import os
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from cdc.change_group import ChangeGroup
from cdc.errors import CaptureConfigError, FencedError, PublishError, RecordTooLargeError
from cdc.publisher import Publisher
from cdc.topic_creation import MAX_RECORD_BYTES, ensure_topics
from events.cluster import Cluster
from events.partition import partition_for_key
from events.topic import Topics

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@asynccontextmanager
async def started(cluster: Cluster, source: str = "shop") -> AsyncGenerator[Publisher]:
    publisher = Publisher(cluster, source)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()


async def test_the_first_start_finds_no_progress_and_a_later_one_finds_the_last(
    cluster: Cluster,
) -> None:
    publisher = Publisher(cluster, "shop")
    assert await publisher.start() is None
    await publisher.publish(ChangeGroup(), b"one")
    await publisher.publish(ChangeGroup(), b"two")
    await publisher.close()
    async with started(cluster, "other") as other:
        await other.publish(ChangeGroup(), b"three")
    again = Publisher(cluster, "shop")
    assert await again.start() == b"two"
    await again.close()


async def test_a_group_over_several_topics_partitions_and_batches_keeps_order_by_key(
    cluster: Cluster, read_topic: ReadTopic
) -> None:
    prefix = cluster.topics.prefix
    group = ChangeGroup()
    for number in range(3_000):
        for topic in (f"{prefix}.a", f"{prefix}.b"):
            key = b'{"id":%d}' % (number % 7)
            group.add(topic, key, b"%d" % number + b" " * 1_500, (("h", b"v"),), 1_000 + number)
    async with started(cluster) as publisher:
        await publisher.publish(group, b"done")
    for topic in (f"{prefix}.a", f"{prefix}.b"):
        records = await read_topic(topic)
        assert len(records) == 3_000
        by_key: dict[bytes, list[int]] = {}
        for record in records:
            assert record.key is not None
            assert record.value is not None
            assert record.partition == partition_for_key(record.key, cluster.partitions)
            assert record.headers == (("h", b"v"),)
            by_key.setdefault(record.key, []).append(int(record.value))
            assert record.timestamp == 1_000 + int(record.value)
        assert sorted(number for numbers in by_key.values() for number in numbers) == list(
            range(3_000)
        )
        assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_groups_published_at_once_are_committed_in_their_order(
    cluster: Cluster, read_topic: ReadTopic
) -> None:
    topic = f"{cluster.topics.prefix}.t"
    committed: list[int] = []

    async def publish(number: int) -> None:
        group = ChangeGroup()
        # Every other one is large, so that one that overtakes would have the time to.
        for part in range(2_000 if number % 2 == 0 else 1):
            group.add(topic, b"k", b"%d %d" % (number, part), (), 1_000)
        await publisher.publish(group, b"%d" % number)
        committed.append(number)

    async with started(cluster) as publisher:
        await asyncio.gather(*(publish(number) for number in range(12)))
    assert committed == list(range(12))
    records = await read_topic(topic)
    values = [tuple(map(int, (record.value or b"").split())) for record in records]
    assert values == sorted(values)
    assert len(values) == 6 * 2_001
    again = Publisher(cluster, "shop")
    assert await again.start() == b"11"
    await again.close()


async def test_a_group_behind_one_that_failed_is_not_committed(cluster: Cluster) -> None:
    topic = f"{cluster.topics.prefix}.t"
    refused, behind = ChangeGroup(), ChangeGroup()
    refused.add(topic, b"k", b"x" * MAX_RECORD_BYTES, (), 1_000)
    behind.add(topic, b"k", b"fine", (), 1_000)
    async with started(cluster) as publisher:
        await publisher.publish(ChangeGroup(), b"before")
        outcomes = await asyncio.gather(
            publisher.publish(refused, b"refused"),
            publisher.publish(behind, b"behind"),
            publisher.publish(behind, b"far behind"),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [
        RecordTooLargeError,
        PublishError,
        PublishError,
    ]
    again = Publisher(cluster, "shop")
    assert await again.start() == b"before"
    await again.close()


async def test_a_record_without_a_key_goes_to_partition_0(
    cluster: Cluster, read_topic: ReadTopic
) -> None:
    topic = f"{cluster.topics.prefix}.t"
    group = ChangeGroup()
    group.add(topic, None, b"{}", (), 1_000)
    async with started(cluster) as publisher:
        await publisher.publish(group, b"done")
    (record,) = await read_topic(topic)
    assert (record.key, record.partition) == (None, 0)


async def test_a_newer_publisher_of_the_source_fences_the_older(cluster: Cluster) -> None:
    async with started(cluster) as older:
        await older.publish(ChangeGroup(), b"one")
        newer = Publisher(cluster, "shop")
        assert await newer.start() == b"one"
        with pytest.raises(FencedError, match=rf"another capture.*process {os.getpid()} on "):
            await older.publish(ChangeGroup(), b"two")
        # asyncio complains when it throws a failure away that nobody has looked at.
        gc.collect()
        await newer.publish(ChangeGroup(), b"three")
        await newer.close()
    last = Publisher(cluster, "shop")
    assert await last.start() == b"three"
    await last.close()


async def test_a_transaction_that_kafka_ended_is_not_taken_for_another_capture(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc.publisher._OWNER_WAIT_S", 0.5)
    async with started(cluster) as publisher:
        # What the broker does itself once a transaction has been open for too long.
        thief = AIOKafkaProducer(
            bootstrap_servers=cluster.bootstrap,
            transactional_id=f"{cluster.topics.prefix}.cdc.shop",
        )
        await thief.start()
        await thief.stop()
        with pytest.raises(PublishError, match="open for too long") as raised:
            await publisher.publish(ChangeGroup(), b"two")
        assert not isinstance(raised.value, FencedError)


async def test_progress_behind_another_sources_open_transaction_is_found(cluster: Cluster) -> None:
    async with started(cluster) as shop:
        # Holds a transaction open as a killed capture does.
        producer = AIOKafkaProducer(
            bootstrap_servers=cluster.bootstrap,
            transactional_id=f"{cluster.topics.prefix}.cdc.docs",
        )
        await producer.start()
        await producer.begin_transaction()
        await producer.send_and_wait(cluster.topics.progress, b"open", b"docs", partition=0)
        await shop.publish(ChangeGroup(), b"mine")
        again = Publisher(cluster, "shop")
        start = asyncio.create_task(again.start())
        done, _ = await asyncio.wait([start], timeout=0.5)
        assert not done
        await producer.abort_transaction()
        await producer.stop()
        assert await start == b"mine"
        await again.close()


async def test_a_record_larger_than_kafka_takes_is_named(cluster: Cluster) -> None:
    topic = f"{cluster.topics.prefix}.big"
    group = ChangeGroup()
    group.add(topic, b'{"id":7}', b"x" * MAX_RECORD_BYTES, (), 1_000)
    async with started(cluster) as publisher:
        with pytest.raises(RecordTooLargeError, match=r"big.*\{\"id\":7\}.*max\.message\.bytes"):
            await publisher.publish(group, b"done")


async def test_a_record_of_15_mib_is_published(cluster: Cluster, read_topic: ReadTopic) -> None:
    topic = f"{cluster.topics.prefix}.big"
    group = ChangeGroup()
    group.add(topic, b'{"id":7}', b"x" * (15 * 1024 * 1024), (), 1_000)
    async with started(cluster) as publisher:
        await publisher.publish(group, b"done")
    (record,) = await read_topic(topic)
    assert record.value is not None
    assert len(record.value) == 15 * 1024 * 1024


async def test_making_topics_twice_at_once_succeeds(cluster: Cluster) -> None:
    names = [f"{cluster.topics.prefix}.{number}" for number in range(5)]
    await asyncio.gather(ensure_topics(cluster, names), ensure_topics(cluster, names))
    await ensure_topics(cluster, names)


async def test_a_refused_topic_says_which_settings_to_mend(kafka_bootstrap: str) -> None:
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), replication=3)
    with pytest.raises(PublishError, match=r"kafka\.replication"):
        await ensure_topics(cluster, ["never.made"])


async def test_a_kafka_that_is_not_there_gives_an_error_with_its_address() -> None:
    with pytest.raises(CaptureConfigError, match=r"127\.0\.0\.1:9.*kafka\.bootstrap"):
        await Publisher(Cluster("127.0.0.1:9"), "shop").start()
