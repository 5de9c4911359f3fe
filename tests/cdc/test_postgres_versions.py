"""Rows of random tables on each version of PostgreSQL: what stands on Kafka, cast back, is the row.

PostgreSQL is the oracle, and both formats are read. The seed is printed; ROWCAST_TYPES_SEED runs
it again.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import psycopg
import pytest
from aiokafka import ConsumerRecord
from psycopg import sql

from cdc.postgres import PostgresSource
from events.cluster import Cluster
from events.connect_json import plain_key, plain_value
from events.json_codec import JsonValue
from events.values import SESSION_SETTINGS
from tests.cdc.postgres_place import capture_of
from tests.cdc.random_table import SETUP, TYPES, random_columns, random_value
from tests.events.values.cast_back import cast_text, exact

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
Connection = psycopg.AsyncConnection[tuple[object, ...]]
TABLES = 12
ROWS = 6


async def test_every_type_of_every_table_comes_back(
    versioned_dsn: str, cluster: Cluster, read_topic: ReadTopic
) -> None:
    seed = int(os.environ.get("ROWCAST_TYPES_SEED", "0")) or random.randrange(1, 2**32)
    print(f"ROWCAST_TYPES_SEED={seed}")
    chance = random.Random(seed)
    name = f"t{uuid.uuid4().hex[:10]}"
    options = " ".join(f"-c {key}={value}" for key, value in SESSION_SETTINGS.items())
    async with await psycopg.AsyncConnection.connect(
        versioned_dsn, autocommit=True, options=options
    ) as connection:
        for statement in SETUP:
            await connection.execute(statement)
        # All types once, then whatever chance brings together.
        types = await _types(connection)
        every = {f"c{number}": type_name for number, type_name in enumerate(types)}
        tables = {"every": every} | {
            f"t{number}": random_columns(chance, types, chance.randint(1, 9))
            for number in range(TABLES)
        }
        for table, columns in tables.items():
            await _create(connection, table, columns, full=chance.random() < 0.5)
        plain = PostgresSource(name, versioned_dsn, name, name)
        connect = replace(plain, name=f"{name}c", slot=f"{name}c", format="connect-json")
        async with AsyncExitStack() as stack:
            captures = [
                await stack.enter_async_context(capture_of(source, cluster))
                for source in (plain, connect)
            ]
            for table, columns in tables.items():
                for row in range(ROWS):
                    await _insert(connection, table, row, columns, chance)
                await connection.execute(
                    sql.SQL("update {} set stamp = 1 where id < 2").format(sql.Identifier(table))
                )
            topics = {
                (source.name, table): f"{source.name}.public.{table}"
                for source in (plain, connect)
                for table in tables
            }
            records = await _until_all(captures, topics, read_topic)
        for table, columns in tables.items():
            for source in (plain, connect):
                assert len(records[source.name, table]) == ROWS + 2
                for record in records[source.name, table]:
                    await _check(connection, table, columns, plain_value(record.value or b""))
            found = {
                source.name: {
                    plain_key(record.key or b"") for record in records[source.name, table]
                }
                for source in (plain, connect)
            }
            assert found[plain.name] == found[connect.name]


async def _until_all(
    captures: list[asyncio.Task[None]], topics: dict[tuple[str, str], str], read_topic: ReadTopic
) -> dict[tuple[str, str], list[ConsumerRecord]]:
    """The records of each topic once all rows of all tables are there."""
    records: dict[tuple[str, str], list[ConsumerRecord]] = {}
    async with asyncio.timeout(90):
        while sum(map(len, records.values())) < len(topics) * (ROWS + 2):
            for capture in captures:
                if capture.done():
                    capture.result()
            records = {place: await read_topic(topic) for place, topic in topics.items()}
    return records


async def _types(connection: Connection) -> list[str]:
    try:
        await connection.execute("select '<x/>'::xml")
    except psycopg.errors.FeatureNotSupported:  # built without libxml; Debian's has it
        return [name for name in TYPES if not name.startswith("xml")]
    return list(TYPES)


async def _create(
    connection: Connection, table: str, columns: dict[str, str], *, full: bool
) -> None:
    named = sql.Identifier(table)
    parts = [
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(type_name))  # pyright: ignore[reportArgumentType] - our own types
        for column, type_name in columns.items()
    ]
    await connection.execute(
        sql.SQL("create table {} (id int primary key, stamp int, {})").format(
            named, sql.SQL(", ").join(parts)
        )
    )
    if full:
        await connection.execute(sql.SQL("alter table {} replica identity full").format(named))


async def _insert(
    connection: Connection, table: str, row: int, columns: dict[str, str], chance: random.Random
) -> None:
    casts = [sql.SQL("%s::text::{}").format(sql.SQL(name)) for name in columns.values()]  # pyright: ignore[reportArgumentType] - our own types
    statement = sql.SQL("insert into {} values (%s, 0, {})").format(
        sql.Identifier(table), sql.SQL(", ").join(casts)
    )
    values = [random_value(chance, type_name) for type_name in columns.values()]
    await connection.execute(statement, (row, *values))


async def _check(connection: Connection, table: str, columns: dict[str, str], value: bytes) -> None:
    body = exact(value)
    assert isinstance(body, dict)
    after = body["after"]
    assert isinstance(after, dict)
    absent = body["unavailable"]
    assert isinstance(absent, list)
    assert {*after, *map(str, absent)} == {"id", "stamp", *columns}
    for column, type_name in columns.items():
        if column in absent:
            continue
        found = after[column]
        if type_name.removesuffix("[]") in ("json", "jsonb") and not isinstance(found, str):
            # Embedded as it is: the document itself, and that of an array's elements.
            expression, expected = sql.SQL("to_json({})::text").format(_named(column)), None
        else:
            expression, expected = _comparison(column, type_name), _text_of(found, type_name)
        cursor = await connection.execute(
            sql.SQL("select {} from {} where id = %(id)s").format(
                expression, sql.Identifier(table)
            ),
            {"back": expected, "id": int(str(after["id"]))},
        )
        (answer,) = await cursor.fetchone() or (None,)
        if answer is not True:
            text = answer.encode() if isinstance(answer, str) else b"null"
            assert exact(text) == found, (type_name, found, expected)


def _comparison(column: str, type_name: str) -> sql.Composable:
    return sql.SQL("{}::text is not distinct from %(back)s::text::{}::text").format(
        _named(column),
        sql.SQL(type_name),  # pyright: ignore[reportArgumentType] - our own types
    )


def _text_of(value: JsonValue, type_name: str) -> str | None:
    if type_name.startswith("bytea"):
        value = _hexadecimal(value)
    return cast_text(value, delimiter=";" if type_name == "box[]" else ",")


def _hexadecimal(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_hexadecimal(item) for item in value]
    if isinstance(value, str) and not value.startswith("["):
        return "\\x" + base64.b64decode(value, validate=True).hex()
    return value


def _named(column: str) -> sql.Composable:
    """An identifier in a statement that has parameters."""
    return sql.SQL(sql.Identifier(column).as_string().replace("%", "%%"))  # pyright: ignore[reportArgumentType] - quoted
