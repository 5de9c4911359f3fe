from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable

import psycopg
import pytest
from psycopg import sql

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from infra.embedded.postgres import EmbeddedPostgres
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.postgres_effects import ensure_effects
from listener_runtime.settings import HostSettings, PostgresAccess

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CHAIN = Chain("shop/0/1", ("first",))
Open = Callable[..., RunCalls]


def request(event_id: str = "", *, timeout_s: float = 30.0, listener: str = "second") -> RunRequest:
    event = event_id or uuid.uuid4().hex
    return RunRequest(uuid.uuid4().hex, listener, "", b"{}", event, CHAIN, timeout_s=timeout_s)


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> str:
    """The owner's address of the database, effects kept in it."""
    dsn = postgres.dsn("shop")
    await ensure_effects(dsn)
    return dsn


@pytest.fixture
async def host(postgres: EmbeddedPostgres, dsn: str) -> AsyncGenerator[HostCalls]:
    del dsn
    host = HostCalls(HostSettings({"shop": PostgresAccess(postgres.listener_dsn("shop"))}))
    yield host
    await host.close()


@pytest.fixture
async def calls(host: HostCalls) -> AsyncGenerator[RunCalls]:
    calls = host.open(request())
    yield calls
    await calls.close()


@pytest.fixture
def table(dsn: str) -> str:
    """A fresh table with a column of most kinds."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "create table {} (id bigint primary key, name text, tags text[], doc jsonb,"
                " total numeric(10,2), at timestamptz, raw bytea, ok boolean)"
            ).format(sql.Identifier(name))
        )
    return name


async def execute(calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue) -> JsonValue:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    return await calls.call("db.execute", args)


async def fetch(calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue) -> JsonValue:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    answer = await calls.call("db.fetch", args)
    assert isinstance(answer, dict)
    return answer["rows"]


async def fetch_one(calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue) -> JsonValue:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    answer = await calls.call("db.fetch_one", args)
    assert isinstance(answer, dict)
    return answer["row"]


async def test_what_is_written_is_read_in_the_form_of_events(calls: RunCalls, table: str) -> None:
    row: JsonObject = {
        "id": 7,
        "name": "Zoë 'x'",
        "tags": ["a", None, 'b"\\,'],
        "doc": {"k": [1, 2.5, None, "s"]},
        "total": "12.30",
        "at": "2026-11-23T08:17:59.500000Z",
        "raw": "AP8=",
        "ok": True,
    }
    values = ", ".join(f"${number}" for number in range(1, 9))
    answer = await execute(calls, f"insert into {table} values ({values})", *row.values())
    assert answer == {"rows": 1}
    assert await fetch(calls, f"select * from {table} where id = $1", 7) == [row]
    assert await fetch_one(calls, f"select name from {table} where id = $1", 8) is None
    one = await fetch_one(calls, f"select name from {table} where id = $1", 7)
    assert one == {"name": "Zoë 'x'"}


async def test_an_error_says_where_it_is(calls: RunCalls) -> None:
    with pytest.raises(HostCallError) as raised:
        await fetch(calls, "select 1,\n  nothing from pg_class")
    assert "42703" in str(raised.value)
    assert "line 2:   nothing from pg_class\n          ^" in str(raised.value)
    assert await fetch(calls, "select 1 as one") == [{"one": 1}]
