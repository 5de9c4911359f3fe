"""The push service of a test's own: real Kafka, real uvicorn, real WebSocket clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator
from typing import cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import RecordMetadata, TopicPartition
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from events.cluster import Cluster
from events.event import make_event
from events.event_type import RowOperation, row_type
from events.json_codec import JsonObject, decode_object
from events.token import Role, TokenVerifier, make_token
from events.topic import Topics, change_topic
from push.positions import Positions
from push.service import PushService, static_directory
from push.settings import PushSettings
from rowcast.http_server import HttpServer
from tests.conftest import free_ports

SECRET = "a secret of thirty-two characters"
LIMIT_S = 60.0
PARTITIONS = 3


class Client:
    """A WebSocket client that keeps what it was sent, as a client of ours would."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[JsonObject] = []
        self.positions: Positions = {}

    async def say(self, message: object) -> None:
        await self.socket.send(message if isinstance(message, str) else json.dumps(message))

    async def next(self) -> JsonObject:
        """The next message of any kind."""
        async with asyncio.timeout(LIMIT_S):
            message = decode_object(await self.socket.recv())
        if message["op"] == "event":
            self._keep(message)
        elif "positions" in message:
            for topic, offsets in cast("Positions", message["positions"]).items():
                for partition, offset in enumerate(offsets):
                    self._advance(topic, partition, offset)
        return message

    async def answer(self, operation: str) -> JsonObject:
        """The next message that is no event, which is the one expected."""
        while (message := await self.next())["op"] == "event":
            pass
        assert message["op"] == operation, message
        return message

    async def register(self, positions: Positions | None = None, **fields: object) -> JsonObject:
        """The answer to a registration, from positions on where there are some."""
        begin = {} if positions is None else {"from": positions}
        await self.say({"op": "register", "ref": "r", **fields, **begin})
        return await self.answer("registered")

    async def resume(self, positions: Positions, **fields: object) -> bool:
        """Register from positions and wait until it is live; returns whether it is complete."""
        registered = await self.register(positions, **fields)
        if registered["live"]:
            return registered["complete"] is True
        return (await self.answer("live"))["complete"] is True

    async def event(self) -> JsonObject:
        """The next event, whole."""
        while (message := await self.next())["op"] != "event":
            assert message["op"] == "live", message
        return cast("JsonObject", message["event"])

    async def wait_for_events(self, count: int) -> list[str]:
        """The ids of the first events, once there are so many."""
        while len(self.events) < count:
            await self.next()
        return self.ids()

    async def settled(self) -> list[str]:
        """The ids of all events that were dispatched before now; none is still on its way."""
        await self.say({"op": "ping", "ref": "settled"})
        while (await self.next()).get("ref") != "settled":
            pass
        return self.ids()

    def ids(self) -> list[str]:
        return [str(cast("JsonObject", message["event"])["id"]) for message in self.events]

    async def close_code(self) -> int:
        """How the server closed it, once everything before is read."""
        with pytest.raises(ConnectionClosed) as closed:
            await self._read_on()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code

    async def _read_on(self) -> None:
        while True:
            await self.next()

    def _keep(self, message: JsonObject) -> None:
        self.events.append(message)
        topic, partition = str(message["topic"]), cast("int", message["partition"])
        self._advance(topic, partition, cast("int", message["offset"]))

    def _advance(self, topic: str, partition: int, offset: int) -> None:
        offsets = self.positions.setdefault(topic, [])
        offsets.extend([-1] * (partition + 1 - len(offsets)))
        offsets[partition] = max(offsets[partition], offset)


class PushBench:
    """One push service and what it takes to write what it pushes."""

    def __init__(self, bootstrap: str, metadata_max_age_ms: int = 200) -> None:
        prefix = f"t{uuid.uuid4().hex[:12]}"
        self.source = f"{prefix}shop"
        self.cluster = Cluster(
            bootstrap,
            Topics(prefix),
            (self.source,),
            PARTITIONS,
            metadata_max_age_ms=metadata_max_age_ms,
        )
        self.topics = self.cluster.topics
        self.orders = change_topic(self.source, "public", "orders")
        self.pattern = f"db.{self.source}.public.orders.*"
        self.producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=2**24)
        self._count = 0

    async def make_topics(self, *names: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.cluster.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        finally:
            await admin.close()

    async def delete_records(self, before: dict[TopicPartition, int]) -> None:
        """Throw records away, as retention does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.cluster.bootstrap)
        await admin.start()
        try:
            await admin.delete_records(
                {part: RecordsToDelete(offset) for part, offset in before.items()}
            )
        finally:
            await admin.close()

    def change(
        self,
        after: JsonObject | None,
        before: JsonObject | None = None,
        *,
        table: str = "orders",
        operation: RowOperation | None = None,
    ) -> tuple[str, bytes]:
        """Id and value of a change, as capture writes it."""
        self._count += 1
        event_id = f"{self.source}/{self._count}"
        if operation is None:
            created = RowOperation.CREATED if before is None else RowOperation.UPDATED
            operation = RowOperation.DELETED if after is None else created
        body: JsonObject = {
            "id": event_id,
            "type": row_type(self.source, "public", table, operation),
            "op": operation.op,
            "before": before,
            "after": after,
            "changed": None,
            "unavailable": [],
        }
        return event_id, json.dumps(body).encode()

    async def write(
        self,
        after: JsonObject | None,
        before: JsonObject | None = None,
        *,
        table: str = "orders",
        operation: RowOperation | None = None,
        partition: int | None = None,
    ) -> str:
        """A change of a row, on Kafka; returns its id."""
        event_id, value = self.change(after, before, table=table, operation=operation)
        row = after if after is not None else before or {}
        topic = change_topic(self.source, "public", table)
        key = json.dumps({"id": row.get("id")}, separators=(",", ":")).encode()
        await self.producer.send_and_wait(topic, value, key, partition)
        return event_id

    async def push(self, channel: str, data: JsonObject) -> RecordMetadata:
        event = make_event(
            event_id=uuid.uuid4().hex, event_type=f"push.{channel}", data=data, ts_ms=0, key=channel
        )
        return await self.producer.send_and_wait(self.topics.push, event.value, event.key)

    @contextlib.asynccontextmanager
    async def serving(
        self, settings: PushSettings | None = None, port: int | None = None
    ) -> AsyncGenerator[PushServer]:
        """The service and the browser's client, listening; closed cleanly at the end."""
        service = PushService(self.cluster, TokenVerifier(SECRET), settings)
        port = port or free_ports(1)[0]
        stop, ready = asyncio.Event(), asyncio.Event()
        static = Mount("/static", StaticFiles(directory=static_directory()))
        app = Starlette(routes=[*service.routes(), static])
        server = HttpServer(app, "127.0.0.1", port, ready.set)
        await service.start()
        running = asyncio.create_task(server.run_until(stop))
        try:
            await ready.wait()
            yield PushServer(port, stop)
        finally:
            stop.set()
            await running
            await service.close()


class PushServer:
    """Where a service listens."""

    def __init__(self, port: int, stop: asyncio.Event) -> None:
        self.port = port
        self.stop = stop

    @contextlib.asynccontextmanager
    async def client(
        self, *, lifetime_s: float = 600, role: Role = "authenticated", slow: bool = False
    ) -> AsyncGenerator[Client]:
        """A client with a token; a slow one takes nothing that it does not ask for."""
        token = make_token(SECRET, role, "tester", lifetime_s, now=time.time())
        async with self.socket(f"?token={token}", slow=slow) as socket:
            yield Client(socket)

    @contextlib.asynccontextmanager
    async def socket(self, query: str, *, slow: bool = False) -> AsyncGenerator[ClientConnection]:
        url = f"ws://127.0.0.1:{self.port}/ws{query}"
        queued = 1 if slow else 1_000
        async with connect(
            url, compression=None, max_size=None, max_queue=queued, proxy=None
        ) as socket:
            yield socket
