from __future__ import annotations

import asyncio
import uuid

import psycopg
import pytest

from events.json_codec import JsonObject
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.postgres_pool import CONNECTIONS_MAX
from listener_runtime.settings import HostSettings, PostgresAccess
from tests.conftest import free_ports
from tests.listener_runtime.postgres_calls import begin, execute, fetch, fetch_one, request

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


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


# --- transactions ---------------------------------------------------------------------------


async def test_a_transaction_is_seen_when_it_is_committed(calls: RunCalls, table: str) -> None:
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    assert await fetch(calls, f"select id from {table}") == []
    assert await fetch(calls, f"select id from {table}", tx=tx) == [{"id": 1}]
    await calls.call("db.commit", {"tx": tx})
    assert await fetch(calls, f"select id from {table}") == [{"id": 1}]
    with pytest.raises(HostCallError, match="not open in this run"):
        await execute(calls, "select 1", tx=tx)


async def test_calls_of_a_transaction_at_once_are_carried_out_in_turn(
    calls: RunCalls, table: str
) -> None:
    tx = await begin(calls)
    await asyncio.gather(
        *(execute(calls, f"insert into {table} values ($1)", n, tx=tx) for n in range(50))
    )
    await calls.call("db.commit", {"tx": tx})
    assert await fetch(calls, f"select count(*) as n from {table}") == [{"n": 50}]


async def test_a_transaction_that_failed_is_not_committed(calls: RunCalls, table: str) -> None:
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    with pytest.raises(HostCallError, match="23505"):
        await execute(calls, f"insert into {table} values (1::bigint)", tx=tx)
    with pytest.raises(HostCallError, match="nothing of it was kept"):
        await calls.call("db.commit", {"tx": tx})
    assert await fetch(calls, f"select id from {table}") == []


async def test_a_statement_that_is_not_understood_leaves_the_transaction_whole(
    calls: RunCalls, table: str
) -> None:
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    with pytest.raises(HostCallError, match="42703"):
        await execute(calls, f"insert into {table} (nothing) values (1)", tx=tx)
    doc = await fetch_one(calls, "select jsonb_build_object('a', $1) as doc", [1, None], tx=tx)
    assert doc == {"doc": {"a": [1, None]}}
    await calls.call("db.commit", {"tx": tx})
    assert await fetch(calls, f"select id from {table}") == [{"id": 1}]


async def test_a_run_may_have_four_transactions_open(calls: RunCalls) -> None:
    opened = await asyncio.gather(*(begin(calls) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(tx, HostCallError) for tx in opened) == 1
    await calls.call("db.rollback", {"tx": 1})
    await begin(calls)


async def test_a_run_that_ends_rolls_its_transactions_back(
    host: HostCalls, calls: RunCalls, table: str
) -> None:
    ending = host.open(request())
    tx = await begin(ending)
    await execute(ending, f"insert into {table} values (1)", tx=tx)
    await ending.close()
    await execute(calls, f"insert into {table} values (1)")
    with pytest.raises(HostCallError, match="the run has ended"):
        await execute(ending, "select 1")


# --- bounds ---------------------------------------------------------------------------------


async def test_rows_and_bytes_are_bounded(calls: RunCalls) -> None:
    with pytest.raises(HostCallError, match="more than 10000 rows"):
        await fetch(calls, "select generate_series(1, 1000000000)")
    with pytest.raises(HostCallError, match="more than 8388608 bytes"):
        await fetch(calls, "select repeat('x', 1000000), generate_series(1, 1000000)")
    rows = await fetch(calls, "select generate_series(1, 1000000000) as n", limit=3)
    assert rows == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert await fetch_one(calls, "select generate_series(5, 1000000000) as n") == {"n": 5}
    assert await fetch(calls, "select 1", limit=0) == []
    answer = await execute(calls, "select n from generate_series(1, 20000) n")
    assert answer == {"rows": 20000}


async def test_a_limit_on_returning_rows_does_not_stop_the_writing(
    calls: RunCalls, table: str
) -> None:
    rows = await fetch(
        calls, f"insert into {table} select generate_series(1, 5000) returning id", limit=2
    )
    assert rows == [{"id": 1}, {"id": 2}]
    assert await fetch(calls, f"select count(*) as n from {table}") == [{"n": 5000}]


async def running_statements(dsn: str, text: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute(
            "select count(*) from pg_stat_activity where state = 'active'"
            " and application_name = 'rowcast listener' and query like '%%' || %s || '%%'",
            (text,),
        )
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def until_running(dsn: str, text: str, count: int) -> None:
    async with asyncio.timeout(30):
        while await running_statements(dsn, text) != count:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["read", "write", "transaction"])
async def test_a_run_that_ends_leaves_no_statement_running(
    host: HostCalls, dsn: str, how: str, table: str
) -> None:
    # So long that only a cancel can be what ends the statement.
    calls = host.open(request(timeout_s=3_600))
    mark = uuid.uuid4().hex
    slow = f"insert into {table} select 1 from pg_sleep(600) /* {mark} */"
    match how:
        case "read":
            call = asyncio.create_task(fetch(calls, f"select pg_sleep(600) /* {mark} */"))
        case "write":
            call = asyncio.create_task(execute(calls, slow))
        case _:
            call = asyncio.create_task(execute(calls, slow, tx=await begin(calls)))
    await until_running(dsn, mark, 1)
    await calls.close()
    with pytest.raises(HostCallError, match="the run has ended"):
        await call
    await until_running(dsn, mark, 0)


async def test_a_statement_ends_with_the_time_of_its_run(host: HostCalls, dsn: str) -> None:
    calls = host.open(request(timeout_s=0.3))
    mark = uuid.uuid4().hex
    with pytest.raises(HostCallError, match=r"took longer|57014"):
        await fetch(calls, f"select pg_sleep(600) /* {mark} */")
    await until_running(dsn, mark, 0)
    with pytest.raises(HostCallError, match="took longer"):
        await fetch(calls, "select 1")
    await calls.close()


async def test_many_calls_at_once_share_few_connections(calls: RunCalls) -> None:
    answers = await asyncio.gather(
        *(fetch(calls, "select $1::int as n, pg_backend_pid() as pid", n) for n in range(200))
    )
    assert [row["n"] for (row,) in answers] == list(range(200))
    assert len({str(row["pid"]) for (row,) in answers}) <= CONNECTIONS_MAX


# --- connections ----------------------------------------------------------------------------


async def test_what_a_run_has_set_is_not_seen_by_another(host: HostCalls) -> None:
    first = host.open(request())
    pid = await fetch_one(first, "select pg_backend_pid() as pid")
    await execute(first, "set timezone = 'Asia/Tokyo'")
    await execute(first, "select pg_advisory_lock(77)")
    await execute(first, "create temporary table left_over (id int)")
    assert await fetch_one(first, "select current_setting('timezone') as zone") == {
        "zone": "Asia/Tokyo"
    }
    await first.close()
    second = host.open(request())
    assert await fetch_one(second, "select pg_backend_pid() as pid") == pid
    row = await fetch_one(
        second,
        "select current_setting('timezone') as zone, to_regclass('left_over') as t,"
        " (select count(*) from pg_locks where locktype = 'advisory') as locks",
    )
    assert row == {"zone": "UTC", "t": None, "locks": 0}
    await second.close()


async def test_a_connection_that_the_server_closed_is_replaced(host: HostCalls, dsn: str) -> None:
    calls = host.open(request())
    row = await fetch_one(calls, "select pg_backend_pid() as pid")
    assert isinstance(row, dict)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("select pg_terminate_backend(%s, 10000)", (row["pid"],))
    other = await fetch_one(calls, "select pg_backend_pid() as pid")
    assert other != row
    await calls.close()


async def test_a_connection_lost_during_a_call_is_an_error_and_the_next_call_works(
    host: HostCalls, dsn: str, table: str
) -> None:
    calls = host.open(request())
    mark = uuid.uuid4().hex
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    call = asyncio.create_task(execute(calls, f"select pg_sleep(600) /* {mark} */", tx=tx))
    await until_running(dsn, mark, 1)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where query like %s"
            " and pid <> pg_backend_pid()",
            (f"%{mark}%",),
        )
    with pytest.raises(HostCallError, match="was lost during the call"):
        await call
    with pytest.raises(HostCallError, match="the transaction is over: it was lost"):
        await execute(calls, "select 1", tx=tx)
    assert await fetch(calls, f"select * from {table}") == []
    await calls.close()


async def test_a_server_that_is_away_is_said() -> None:
    (port,) = free_ports(1)
    host = HostCalls(
        HostSettings({"shop": PostgresAccess(f"postgresql://x:secret@127.0.0.1:{port}/shop")})
    )
    calls = host.open(request())
    with pytest.raises(HostCallError, match="the source 'shop' was not reached") as raised:
        await fetch(calls, "select 1")
    assert "secret" not in str(raised.value)
    with pytest.raises(HostCallError, match="was not reached"):
        await begin(calls)
    await calls.close()
    await host.close()
