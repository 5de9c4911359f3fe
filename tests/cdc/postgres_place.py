"""A database, a source and a cluster prefix of one test's own, with a capture to run between."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString, cast

import psycopg
from aiokafka import ConsumerRecord
from psycopg import sql
from psycopg.conninfo import make_conninfo

from cdc.errors import FencedError
from cdc.postgres import PostgresSource, capture_postgres
from cdc.progress import PostgresProgress, decode_progress, progress_key
from events.cluster import Cluster

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
Envelope = dict[str, Any]  # pyright: ignore[reportExplicitAny] - decoded JSON, looked at field by field


@dataclass(frozen=True, slots=True)
class Place:
    """A database, a source and a cluster of one test's own."""

    source: PostgresSource
    cluster: Cluster
    connection: psycopg.AsyncConnection[tuple[Any, ...]]  # pyright: ignore[reportExplicitAny] - rows of any query
    read_topic: ReadTopic
    captures: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def run(self, *statements: LiteralString) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    async def envelopes(self, table: str) -> list[Envelope]:
        records = await self.read_topic(f"{self.source.name}.public.{table}")
        found = [cast("Envelope", json.loads(record.value or b"null")) for record in records]
        return sorted(
            found, key=lambda body: (body["source"]["lsn"], body["transaction"]["total_order"])
        )

    async def until(self, table: str, count: int) -> list[Envelope]:
        async with asyncio.timeout(30):
            while len(found := await self.envelopes(table)) < count:
                await asyncio.sleep(0.02)
                if self.captures and self.captures[-1].done():
                    self.captures[-1].result()
        assert len(found) == count
        return found

    async def progress(self) -> PostgresProgress:
        records = await self.read_topic(self.cluster.topics.progress)
        mine = [one.value for one in records if one.key == progress_key(self.source.name)]
        progress = decode_progress(mine[-1] or b"")
        assert isinstance(progress, PostgresProgress)
        return progress

    async def confirmed(self) -> str:
        cursor = await self.connection.execute(
            "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s",
            (self.source.slot,),
        )
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0])


@dataclass(frozen=True, slots=True)
class Role:
    """A role that may replicate and nothing else."""

    name: str
    connection: psycopg.AsyncConnection[tuple[object, ...]]

    async def run(self, statement: LiteralString) -> None:
        await self.connection.execute(sql.SQL(statement).format(sql.Identifier(self.name)))

    def source_of(self, source: PostgresSource) -> PostgresSource:
        return replace(source, dsn=make_conninfo(source.dsn, user=self.name, password="x"))


@asynccontextmanager
async def own_place(
    postgres_dsn: str, cluster: Cluster, read_topic: ReadTopic
) -> AsyncGenerator[Place]:
    """A place, gone again at the end with all that a capture made for it."""
    name = f"t{uuid.uuid4().hex[:10]}"
    database = sql.Identifier(name)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(sql.SQL("create database {}").format(database))
        dsn = make_conninfo(postgres_dsn, dbname=name)
        source = PostgresSource(name, dsn, f"slot_{name}", "rowcast", heartbeat_s=0.2)
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            yield Place(source, cluster, connection, read_topic)
        await admin.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            " where slot_name = %s and active",
            (source.slot,),
        )
        async with asyncio.timeout(10):
            while True:
                try:
                    await admin.execute(
                        "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                        " where slot_name = %s",
                        (source.slot,),
                    )
                except psycopg.errors.ObjectInUse:
                    await asyncio.sleep(0.05)
                else:
                    break
        await admin.execute(sql.SQL("drop database {} with (force)").format(database))


@asynccontextmanager
async def capturing(
    place: Place, source: PostgresSource | None = None
) -> AsyncGenerator[asyncio.Task[None]]:
    async with capture_of(source or place.source, place.cluster, place.captures) as task:
        yield task


@asynccontextmanager
async def capture_of(
    source: PostgresSource,
    cluster: Cluster,
    captures: list[asyncio.Task[None]] | None = None,
    *,
    ends_with: type[Exception] = FencedError,
) -> AsyncGenerator[asyncio.Task[None]]:
    """A capture that reads, until the end of the context; raises what else ended it before."""
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(capture_postgres(source, cluster, stop=stop, on_ready=ready.set))
    if captures is not None:
        captures.append(task)
    waiter = asyncio.create_task(ready.wait())
    await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if task.done():
        await task
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait([task])
    if not task.cancelled() and not isinstance(task.exception(), ends_with):
        task.result()
