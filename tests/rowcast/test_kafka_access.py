from __future__ import annotations

import uuid

import anyio
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, NodeNotReadyError

from events.cluster import Cluster
from rowcast.errors import NotRunningError
from rowcast.kafka_access import follow, read_topic, write_record

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def make_topic(bootstrap: str, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


async def write_in_transactions(bootstrap: str, topic: str, texts: list[bytes]) -> None:
    """Each value in a transaction of its own, and one more that is aborted at the end."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=f"t-{uuid.uuid4()}"
    ) as producer:
        for number, text in enumerate(texts):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, text, partition=number % 2)
            await producer.commit_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()


async def test_a_topic_is_read_to_its_end_though_markers_of_transactions_stand_there(
    kafka_bootstrap: str,
) -> None:
    topic = f"t.{uuid.uuid4()}"
    await make_topic(kafka_bootstrap, topic, 3)
    texts = [b"1", b"2", b"3"]
    await write_in_transactions(kafka_bootstrap, topic, texts)
    with anyio.fail_after(30):
        records = await read_topic(Cluster(kafka_bootstrap), topic)
    assert [record.value for record in records] == texts


async def test_an_empty_topic_and_a_missing_one_are_read_as_empty(kafka_bootstrap: str) -> None:
    topic = f"t.{uuid.uuid4()}"
    await make_topic(kafka_bootstrap, topic, 1)
    with anyio.fail_after(30):
        assert await read_topic(Cluster(kafka_bootstrap), topic) == []
        assert await read_topic(Cluster(kafka_bootstrap), f"missing.{uuid.uuid4()}") == []


async def test_a_topic_that_appears_later_is_followed_from_its_beginning(
    kafka_bootstrap: str,
) -> None:
    cluster = Cluster(kafka_bootstrap, metadata_max_age_ms=200)
    prefix = f"f{uuid.uuid4().hex}"
    await make_topic(kafka_bootstrap, f"{prefix}.a", 1)
    with anyio.fail_after(30):
        await write_record(cluster, f"{prefix}.a", b"k", b"one")
        records = follow(cluster, topic_filter=rf"{prefix}\..+", from_beginning=True)
        assert (await anext(records)).value == b"one"
        await make_topic(kafka_bootstrap, f"{prefix}.b", 1)
        await write_record(cluster, f"{prefix}.b", b"k", b"two")
        assert (await anext(records)).value == b"two"
        await write_record(cluster, f"{prefix}.a", b"k", b"three")
        assert (await anext(records)).value == b"three"
        await records.aclose()


async def test_a_kafka_that_is_not_there_is_named_with_the_mend() -> None:
    with pytest.raises(NotRunningError, match=r"127\.0\.0\.1:9.*rowcast up"):
        await read_topic(Cluster("127.0.0.1:9"), "any")


async def test_a_kafka_that_does_not_count_its_broker_yet_is_asked_again(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"t.{uuid.uuid4()}"
    cluster = Cluster(kafka_bootstrap)
    await make_topic(kafka_bootstrap, topic, 1)
    await write_record(cluster, topic, b"k", b"one")
    list_topics = AIOKafkaAdminClient.list_topics
    asked: set[AIOKafkaAdminClient] = set()

    async def without_a_broker_at_first(client: AIOKafkaAdminClient) -> list[str]:
        asked.add(client)
        if len(asked) < 3:
            # What a client says that was told of no broker as it began.
            raise NodeNotReadyError
        return await list_topics(client)

    monkeypatch.setattr(AIOKafkaAdminClient, "list_topics", without_a_broker_at_first)
    with anyio.fail_after(30):
        assert [record.value for record in await read_topic(cluster, topic)] == [b"one"]
    assert len(asked) == 3


async def test_a_failure_before_the_first_record_is_not_hidden_by_the_end(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"t.{uuid.uuid4()}"
    await make_topic(kafka_bootstrap, topic, 1)
    list_topics = AIOKafkaAdminClient.list_topics
    asked = 0

    async def refused_at_once(client: AIOKafkaAdminClient) -> list[str]:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise KafkaError("not today")
        return await list_topics(client)

    monkeypatch.setattr(AIOKafkaAdminClient, "list_topics", refused_at_once)
    with pytest.raises(NotRunningError, match="not today"):
        await read_topic(Cluster(kafka_bootstrap), topic)
