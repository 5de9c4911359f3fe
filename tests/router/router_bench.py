"""A router on a Kafka of its own topics; Python functions in the place of the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from events.cluster import Cluster
from events.event import Event, decode_event, make_event
from events.json_codec import JsonObject, decode_object
from events.kept_definition import definition_record_key
from events.run import Emission, RunOutcome, RunRequest
from events.topic import Topics
from router.definition import (
    Definition,
    ListenerCode,
    Retry,
)
from router.router import Router
from rowcast.kafka_access import follow

Body = Callable[[RunRequest], Awaitable[RunOutcome]]
QUICK = Retry(attempts=3, backoff_s=0.01)


class Functions:
    """A sandbox whose listeners are Python functions, by name; notes every run."""

    def __init__(self, **bodies: Body) -> None:
        self.bodies = bodies
        self.runs: list[tuple[str, str, int]] = []

    async def run(self, request: RunRequest) -> RunOutcome:
        self.runs.append((request.listener, request.event_id, request.attempt))
        return await self.bodies[request.listener](request)


def ok(*emissions: Emission) -> RunOutcome:
    return RunOutcome("ok", 1.0, emissions=emissions)


async def does_nothing(_request: RunRequest) -> RunOutcome:
    return ok()


def emits(event_type: str) -> Body:
    async def body(request: RunRequest) -> RunOutcome:
        data = decode_object(request.event)["data"]
        return ok(Emission(event_type, data))

    return body


class Bench:
    """A cluster prefix of the test's own, with what it takes to define, emit and read."""

    def __init__(self, bootstrap: str) -> None:
        prefix = f"t{uuid.uuid4().hex[:12]}"
        self.cluster = Cluster(bootstrap, Topics(prefix), (f"{prefix}src",), partitions=3)
        self.topics = self.cluster.topics
        self.producer = AIOKafkaProducer(bootstrap_servers=bootstrap)

    async def make_topics(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.cluster.bootstrap)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(name, 1, 1) for name in self.topics.compacted]
                + [NewTopic(name, 3, 1) for name in self.topics.partitioned]
            )
        finally:
            await admin.close()

    async def define(self, name: str, on: str, **fields: object) -> None:
        table = {"name": name, "on": on, "action": ListenerCode("x"), "retry": QUICK, **fields}
        definition = msgspec.convert(table, Definition)
        await self.producer.send_and_wait(
            self.topics.definitions, definition.encode(), definition_record_key("listener", name)
        )

    async def delete(self, name: str) -> None:
        await self.producer.send_and_wait(
            self.topics.definitions, None, definition_record_key("listener", name)
        )

    async def emit(self, event_type: str, data: object, key: str | None = None) -> str:
        event = make_event(
            event_id=f"e-{uuid.uuid4().hex}",
            event_type=event_type,
            data=json.loads(json.dumps(data)),
            ts_ms=0,
            key=key,
        )
        await self.producer.send_and_wait(self.topics.events, event.value, event.key)
        return event.id

    @contextlib.asynccontextmanager
    async def routing(
        self, sandbox: Functions, instance: str = "0"
    ) -> AsyncGenerator[asyncio.Event]:
        """A router that runs; ended cleanly at the end."""
        stop, ready = asyncio.Event(), asyncio.Event()
        made = Router(self.cluster, sandbox, instance=instance)
        router = asyncio.create_task(made.run(stop, ready.set))
        started = asyncio.create_task(ready.wait())
        await asyncio.wait((router, started), return_when=asyncio.FIRST_COMPLETED)
        if router.done():
            router.result()
        try:
            yield stop
        finally:
            stop.set()
            await router

    async def values(
        self, topic: str, wanted: Callable[[JsonObject], bool], count: int
    ) -> list[JsonObject]:
        """The first records of a topic that are wanted."""
        found: list[JsonObject] = []
        records = follow(self.cluster, topic_filter=(topic,), from_beginning=True)
        with anyio.fail_after(60):
            async with contextlib.aclosing(records):
                async for record in records:
                    value = decode_object(record.value or b"{}")
                    if wanted(value):
                        found.append(value)
                        if len(found) == count:
                            break
        return found

    async def events(self, wanted: Callable[[Event], bool], count: int = 1) -> list[Event]:
        """The first custom and system events that are wanted."""
        found: list[Event] = []
        topic_filter = (self.topics.events, self.topics.push)
        records = follow(self.cluster, topic_filter=topic_filter, from_beginning=True)
        with anyio.fail_after(60):
            async with contextlib.aclosing(records):
                async for record in records:
                    event = decode_event(record.value or b"{}", record.headers)
                    if wanted(event):
                        found.append(event)
                        if len(found) == count:
                            break
        return found

    async def runs(self, count: int, **wanted: object) -> list[JsonObject]:
        """The first run records whose fields are as wanted."""
        return await self.values(
            self.topics.runs,
            lambda run: all(run.get(name) == value for name, value in wanted.items()),
            count,
        )
