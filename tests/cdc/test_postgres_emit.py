"""`rowcast.emit` in a captured database: whose it is, what it refuses, which schemas it knows."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest
from psycopg import errors, sql

from cdc.postgres_emit import LARGEST_DATA_BYTES
from events.event_schema import EventSchemas
from events.json_codec import JsonValue
from tests.cdc.postgres_place import Place, capturing

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PAID: JsonValue = {
    "type": "object",
    "properties": {"items": {"items": {"$ref": "#/$defs/item"}}},
    "$defs": {
        "item": {"properties": {"price": {"type": "number"}, "at": {"pattern": r"^\d+\\'$"}}}
    },
}
BAD = '{"items": [{"price": 1}, {"price": "x"}]}'
EMIT = "select rowcast.emit(%s, %s::jsonb)"
MANY = 2_000


async def test_sql_refuses_what_a_schema_forbids_with_the_path_and_no_more(place: Place) -> None:
    schemas = EventSchemas({"custom.paid": PAID})
    role = sql.Identifier(f"poor_{place.source.name}")
    connection = place.connection
    async with capturing(place, replace(place.source, schemas=schemas)):
        await place.run("create table orders (id int primary key)")
        await connection.execute(sql.SQL("create role {}").format(role))
        async with connection.transaction():
            await place.run("insert into orders values (1)")
            for data in (BAD, "[]", None):
                with pytest.raises(errors.CheckViolation, match=r"custom\.paid does not keep"):
                    async with connection.transaction():
                        await connection.execute(EMIT, ("custom.paid", data))
            with pytest.raises(errors.CheckViolation) as refused:
                async with connection.transaction():
                    await connection.execute(EMIT, ("custom.paid", BAD))
            assert refused.value.diag.message_primary == (
                "the data of custom.paid does not keep its schema: "
                'found "x", expected the type number, at $.items[1].price'
            )
            with pytest.raises(errors.InvalidTextRepresentation):
                async with connection.transaction():
                    await connection.execute(EMIT, ("custom.other", "{bad"))
            with pytest.raises(errors.ProgramLimitExceeded, match="Kafka takes no larger event"):
                async with connection.transaction():
                    await connection.execute(
                        "select rowcast.emit('custom.huge', to_jsonb(repeat('x', %s::int)))",
                        (LARGEST_DATA_BYTES,),
                    )
            with pytest.raises(errors.InvalidParameterValue, match="a key of 1001 characters"):
                async with connection.transaction():
                    await place.run("select rowcast.emit('custom.x', '{}', repeat('k', 1001))")
            # A savepoint takes its events with it; no right is needed for one.
            await place.run("savepoint s", "select rowcast.emit('custom.never')", "rollback to s")
            await connection.execute(sql.SQL("set local role {}").format(role))
            await place.run(
                """select rowcast.emit('custom.paid', '{"items": [{"at": "1\\\\''"}]}')"""
            )
            await connection.execute(
                "select rowcast.emit('custom.many', to_jsonb(n)) from generate_series(1, %s) n",
                (MANY,),
            )
        await place.until("orders", 1)
        topic = place.cluster.topics.events
        async with asyncio.timeout(60):
            while len(records := await place.read_topic(topic)) < MANY + 1:
                assert not place.captures[-1].done()
        await connection.execute(sql.SQL("drop role {}").format(role))
    bodies = [json.loads(record.value or b"") for record in records]
    assert sorted(one["type"] for one in bodies) == ["custom.many"] * MANY + ["custom.paid"]
    many = [one["data"] for one in bodies if one["type"] == "custom.many"]
    assert many == list(range(1, MANY + 1))


async def test_each_start_of_a_capture_brings_the_schemas_into_step(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def emits(data: str) -> bool:
        try:
            await place.connection.execute(EMIT, ("custom.n", data))
        except errors.CheckViolation:
            return False
        return True

    first = EventSchemas({"custom.n": {"type": "integer"}, "custom.s": {"format": "ipv6"}})
    with caplog.at_level(logging.WARNING):
        async with capturing(place, replace(place.source, schemas=first)):
            assert [await emits(data) for data in ("1", '"x"')] == [True, False]
    assert "does not check $.format: the format ipv6 of the schema of custom.s" in caplog.text
    # What a database was given stays while no capture runs.
    assert not await emits('"x"')
    second = EventSchemas({"custom.n": {"type": "string", "pattern": "^x$"}})
    async with capturing(place, replace(place.source, schemas=second)):
        assert [await emits(data) for data in ("1", '"x"', '"y"')] == [False, True, False]
    async with capturing(place):
        assert await emits("1")
