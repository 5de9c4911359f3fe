"""The tail when Kafka is not as it should be: killed, not there yet, a topic made anew."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from infra.embedded.kafka import EmbeddedKafka
from push.positions import Positions
from push.settings import PushSettings
from tests.conftest import free_ports
from tests.push.push_bench import LIMIT_S, Client, PushBench

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class Broker:
    """A Kafka of a test's own, which it may kill."""

    def __init__(self, folder: Path) -> None:
        port, controller = free_ports(2)
        self.server = EmbeddedKafka(
            *(folder / "kafka", port, controller, folder / "kafka.log"), short_lived=True
        )
        self.server.prepare()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        spec = self.server.process()
        self._process = await asyncio.create_subprocess_exec(
            *spec.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **spec.environment},
        )
        async with asyncio.timeout(LIMIT_S):
            while not await self.server.answers():
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncGenerator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    await broker.kill()


async def said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until the log says something."""
    async with asyncio.timeout(LIMIT_S):
        while text not in caplog.text:
            await asyncio.sleep(0.02)


async def registered_at_last(
    client: Client, bench: PushBench, positions: Positions | None = None
) -> None:
    """Register again and again, as clients do while Kafka is away."""
    begin = {} if positions is None else {"from": positions}
    async with asyncio.timeout(LIMIT_S):
        while True:
            await client.say({"op": "register", "pattern": bench.pattern, **begin})
            while (answer := await client.next())["op"] not in ("registered", "error"):
                pass
            if answer["op"] == "registered":
                return
            assert answer["code"] == "unavailable", answer


async def test_kafka_may_die_and_come_back_under_open_connections(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "push.tail")
    await broker.start()
    bench = PushBench(broker.server.bootstrap)
    await bench.make_topics(*bench.topics.partitioned, bench.orders)
    async with (
        bench.producer,
        bench.serving() as server,
        server.client() as client,
        server.client() as late,
    ):
        await client.register(pattern=bench.pattern)
        before = await bench.write({"id": 1}, partition=0)
        assert await client.wait_for_events(1) == [before]

        await broker.kill()
        await said(caplog, "does not answer")
        # What needs no Kafka goes on; what does is answered, and asked for again.
        assert await client.settled() == [before]
        await client.register(channel="x")
        await late.say({"op": "register", "ref": 1, "pattern": bench.pattern, "from": {}})
        refused = await late.answer("error")
        assert (refused["ref"], refused["code"]) == (1, "unavailable")

        await broker.start()
        await said(caplog, "answers again")
        after = await bench.write({"id": 2}, partition=0)
        assert await client.wait_for_events(2) == [before, after]
        await registered_at_last(late, bench, {})
        assert await late.wait_for_events(2) == [before, after]


async def test_a_service_may_be_started_before_kafka(broker: Broker) -> None:
    bench = PushBench(broker.server.bootstrap)
    settings = PushSettings(start_s=0.1)
    async with bench.serving(settings) as server, server.client() as client:
        await client.say({"op": "register", "ref": 1, "pattern": bench.pattern})
        assert (await client.answer("error"))["code"] == "unavailable"
        await broker.start()
        await bench.make_topics(*bench.topics.partitioned, bench.orders)
        await registered_at_last(client, bench)
        async with bench.producer:
            written = await bench.write({"id": 1})
        assert await client.wait_for_events(1) == [written]


# Noticed by looking at the topics there are, and by reading on where the topic ends before.
@pytest.mark.parametrize("metadata_max_age_ms", [100, 600_000])
async def test_a_topic_that_is_made_anew_is_told_as_lost_and_followed(
    kafka_bootstrap: str, metadata_max_age_ms: int
) -> None:
    bench = PushBench(kafka_bootstrap, metadata_max_age_ms)
    await bench.make_topics(*bench.topics.partitioned, bench.orders)
    async with bench.producer, bench.serving() as server, server.client() as client:
        registered = await client.register(pattern=bench.pattern)
        for number in range(3):
            await bench.write({"id": number}, partition=0)
        await client.wait_for_events(3)
        await delete_topic(bench)
        await bench.make_topics(bench.orders)
        lost = await client.answer("lost")
        assert lost["ids"] == [registered["id"]]
        assert (lost["topic"], lost["partition"]) == (bench.orders, 0)
        assert (lost["after"], lost["before"]) == (2, 0)
        # A producer that knows the old topic would write to it in vain.
        event_id, value = bench.change({"id": 9})
        async with AIOKafkaProducer(bootstrap_servers=bench.cluster.bootstrap) as producer:
            await producer.send_and_wait(bench.orders, value, partition=0)
        assert (await client.wait_for_events(4))[-1] == event_id


async def delete_topic(bench: PushBench) -> None:
    """Delete the orders, and wait until they are gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bench.cluster.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([bench.orders])
        async with asyncio.timeout(LIMIT_S):
            while bench.orders in await admin.list_topics():
                await asyncio.sleep(0.02)
    finally:
        await admin.close()
