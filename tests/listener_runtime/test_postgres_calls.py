from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from infra.embedded.postgres import EmbeddedPostgres
from listener_runtime import postgres_effects
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.postgres_effects import ensure_effects
from listener_runtime.postgres_pool import CONNECTIONS_MAX
from listener_runtime.settings import HostSettings, PostgresAccess
from tests.conftest import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CHAIN = Chain("shop/0/1", ("first",))


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


async def fetch(
    calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue
) -> list[JsonObject]:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    answer = await calls.call("db.fetch", args)
    assert isinstance(answer, dict)
    rows = answer["rows"]
    assert isinstance(rows, list)
    return [row for row in rows if isinstance(row, dict)]


async def fetch_one(calls: RunCalls, text: str, *params: JsonValue, **more: JsonValue) -> JsonValue:
    args: JsonObject = {"source": "shop", "sql": text, "params": [*params], **more}
    answer = await calls.call("db.fetch_one", args)
    assert isinstance(answer, dict)
    return answer["row"]


async def begin(calls: RunCalls) -> int:
    answer = await calls.call("db.begin", {"source": "shop"})
    assert isinstance(answer, dict)
    assert isinstance(answer["tx"], int)
    return answer["tx"]


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


# --- chains ---------------------------------------------------------------------------------


class Decoding:
    """What logical decoding says of the transactions since it was made: pgoutput's letters."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._name = f"d{uuid.uuid4().hex[:12]}"
        self._connection.execute(
            sql.SQL("create publication {} for all tables").format(sql.Identifier(self._name))
        )
        self._connection.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (self._name,)
        )

    def transactions(self) -> list[str]:
        """One word a transaction, such as BMIC; effects' own rows and relations left out."""
        rows = self._connection.execute(
            "select data from pg_logical_slot_get_binary_changes(%s, null, null, 'proto_version',"
            " '1', 'publication_names', %s, 'messages', 'true')",
            (self._name, self._name),
        ).fetchall()
        effects = self._connection.execute(
            "select 'rowcast_capture.effects'::regclass::oid::bigint"
        ).fetchone()
        assert effects is not None
        words: list[str] = []
        for (data,) in rows:
            letter = chr(data[0])
            if letter == "B":
                words.append("")
            own = letter in "IUD" and int.from_bytes(data[1:5]) == effects[0]
            if letter not in "RY" and not own:
                words[-1] += letter
            if letter == "M":
                assert data.endswith(CHAIN.extended("second").encode())
        return words

    def close(self) -> None:
        self._connection.execute("select pg_drop_replication_slot(%s)", (self._name,))
        self._connection.execute(sql.SQL("drop publication {}").format(sql.Identifier(self._name)))
        self._connection.close()


@pytest.fixture
def decoding(dsn: str) -> Iterator[Decoding]:
    decoding = Decoding(dsn)
    yield decoding
    decoding.close()


async def test_the_chain_stands_before_everything_that_is_written(
    calls: RunCalls, table: str, decoding: Decoding
) -> None:
    await execute(calls, f"insert into {table} values (1), (2)")
    await fetch(calls, f"insert into {table} values (3) returning id")
    await fetch(calls, f"insert into {table} values (4) returning id")
    await fetch_one(calls, f"with new as (insert into {table} values (5) returning id) table new")
    tx = await begin(calls)
    await execute(calls, f"update {table} set name = 'x' where id = 1", tx=tx)
    await fetch(calls, f"select * from {table}", tx=tx)
    await execute(calls, f"delete from {table} where id = 2", tx=tx)
    await calls.call("db.commit", {"tx": tx})
    assert decoding.transactions() == ["BMIIC", "BMIC", "BMIC", "BMIC", "BMUDC"]


async def test_a_function_that_writes_bears_the_chain_as_well(
    calls: RunCalls, table: str, decoding: Decoding, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "create function {}() returns void language sql as 'insert into {} values (9)'"
            ).format(sql.Identifier(f"f_{table}"), sql.Identifier(table))
        )
    await fetch(calls, f"select f_{table}()")
    assert decoding.transactions()[-1] == "BMIC"


async def test_what_only_reads_writes_nothing(
    calls: RunCalls, table: str, decoding: Decoding
) -> None:
    await fetch(calls, f"select * from {table} for key share")
    decoding.transactions()
    await fetch(calls, f"select * from {table}")
    await fetch_one(calls, "select txid_current_if_assigned()")
    assert decoding.transactions() == []


@pytest.mark.parametrize(
    "text",
    [
        "commit and chain",
        " ; /* a /* nested */ comment */ -- and another\n COMMIT",
        "begin",
        "rollback to savepoint rowcast",
        "prepare transaction 'x'",
        "end",
        "copy pg_class to stdout",
    ],
)
async def test_a_statement_cannot_end_the_transaction_it_is_in(
    calls: RunCalls, text: str, table: str
) -> None:
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    with pytest.raises(HostCallError, match=r"expected a transaction|COPY cannot"):
        await execute(calls, text, tx=tx)
    with pytest.raises(HostCallError, match=r"expected a transaction|COPY cannot"):
        await fetch(calls, text)
    await calls.call("db.rollback", {"tx": tx})
    assert await fetch(calls, f"select * from {table}") == []


# --- effects --------------------------------------------------------------------------------


async def test_a_retry_gets_the_answer_of_then_and_writes_nothing(
    host: HostCalls, table: str
) -> None:
    answers: list[JsonValue] = []
    event = uuid.uuid4().hex
    for attempt in range(3):
        calls = host.open(request(event))
        answers.append(await execute(calls, f"insert into {table} values ($1)", 1))
        answers += await fetch(calls, f"insert into {table} values (2) returning id, name")
        answers.append(await execute(calls, f"update {table} set total = coalesce(total, 0) + 1"))
        answers.append(await execute(calls, f"update {table} set total = coalesce(total, 0) + 1"))
        await calls.close()
        assert answers[attempt * 4 :] == answers[:4]
    other = host.open(request(event, listener="other"))
    assert await fetch(other, f"select id, total from {table} order by id") == [
        {"id": 1, "total": "2.00"},
        {"id": 2, "total": "2.00"},
    ]
    assert await execute(other, f"update {table} set total = 0") == {"rows": 2}
    await other.close()


async def test_a_retry_does_what_the_first_run_did_not_come_to(host: HostCalls, table: str) -> None:
    event = uuid.uuid4().hex
    first = host.open(request(event))
    await execute(first, f"insert into {table} select generate_series(1, 3)")
    mark = f"update {table} set ok = true where id = $1"
    await execute(first, mark, 1)
    await first.close()
    retry = host.open(request(event))
    left = await fetch(retry, f"select id from {table} where ok is null order by id")
    assert left == [{"id": 2}, {"id": 3}]
    for row in left:
        assert await execute(retry, mark, row["id"]) == {"rows": 1}
    assert await fetch(retry, f"select count(*) as n from {table} where ok") == [{"n": 3}]
    await retry.close()


async def test_a_retry_finds_a_committed_transaction_done(host: HostCalls, table: str) -> None:
    event = uuid.uuid4().hex
    for _ in range(2):
        calls = host.open(request(event))
        await execute(calls, f"insert into {table} values (1, 'one', null, null, 1)")
        tx = await begin(calls)
        (row,) = await fetch(calls, f"select total from {table} where id = 1", tx=tx)
        assert row == {"total": "1.00"}
        total = float(str(row["total"])) + 1
        await execute(calls, f"update {table} set total = $1 where id = 1", total, tx=tx)
        await calls.call("db.commit", {"tx": tx})
        assert await fetch_one(calls, f"select total from {table}") == {"total": "2.00"}
        await calls.close()


async def test_a_retry_repeats_a_transaction_that_was_rolled_back(
    host: HostCalls, table: str
) -> None:
    event = uuid.uuid4().hex
    calls = host.open(request(event))
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    await calls.call("db.rollback", {"tx": tx})
    with pytest.raises(HostCallError, match="22P02"):
        await execute(calls, f"insert into {table} values ($1)", "no number")
    tx = await begin(calls)
    await execute(calls, f"insert into {table} values (1)", tx=tx)
    await calls.call("db.commit", {"tx": tx})
    await calls.close()
    retry = host.open(request(event))
    tx = await begin(retry)
    assert await execute(retry, f"insert into {table} values (1)", tx=tx) == {"rows": 1}
    await retry.call("db.commit", {"tx": tx})
    assert await fetch(retry, f"select id from {table}") == [{"id": 1}]
    await retry.close()


async def test_a_call_that_failed_may_be_made_again_and_is_known_to_the_retry(
    host: HostCalls, table: str
) -> None:
    event = uuid.uuid4().hex
    other, calls = host.open(request()), host.open(request(event))
    insert = f"insert into {table} values (1)"
    await execute(other, insert)
    with pytest.raises(HostCallError, match="23505"):
        await execute(calls, insert)
    await execute(other, f"delete from {table}")
    await execute(calls, insert)
    await calls.close()
    await other.close()
    retry = host.open(request(event))
    assert await execute(retry, insert) == {"rows": 1}
    assert await fetch(retry, f"select id from {table}") == [{"id": 1}]
    await retry.close()


async def test_two_runs_of_one_event_at_once_write_once(host: HostCalls, table: str) -> None:
    event = uuid.uuid4().hex
    runs = [host.open(request(event)) for _ in range(6)]
    answers = await asyncio.gather(
        *(
            fetch(
                run,
                f"insert into {table} select coalesce(max(id), 0) + 1 from {table} returning id",
            )
            for run in runs
        )
    )
    assert answers == [[{"id": 1}]] * 6
    for run in runs:
        await run.close()


async def test_without_the_table_of_effects_calls_still_work(
    postgres: EmbeddedPostgres, dsn: str, decoding: Decoding
) -> None:
    del decoding
    name = f"bare_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        connection.execute("create table t (id int primary key)")
    host = HostCalls(HostSettings({"shop": PostgresAccess(postgres.listener_dsn(name))}))
    event = uuid.uuid4().hex
    for number in range(2):
        calls = host.open(request(event))
        assert await execute(calls, "insert into t select count(*) from t") == {"rows": 1}
        tx = await begin(calls)
        assert await fetch(calls, "select count(*) as n from t", tx=tx) == [{"n": number + 1}]
        await calls.call("db.commit", {"tx": tx})
        await calls.close()
    await host.close()


async def test_an_owner_makes_the_table_of_effects_by_itself(
    postgres: EmbeddedPostgres, dsn: str
) -> None:
    name = f"own_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    host = HostCalls(HostSettings({"shop": PostgresAccess(postgres.dsn(name))}))
    calls = host.open(request())
    await execute(calls, "create table t (id int)")
    assert await fetch(calls, "select count(*) as n from rowcast_capture.effects") == [{"n": 1}]
    await calls.close()
    await host.close()


async def test_old_records_of_effects_are_dropped(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into rowcast_capture.effects"
            " values ('old', 'e', 's', now() - interval '8 days')"
        )
        connection.execute("insert into rowcast_capture.effects values ('new', 'e', %s)", (dsn,))
        connection.execute(postgres_effects.PURGE)
        rows = connection.execute(
            "select listener from rowcast_capture.effects where listener in ('old', 'new')"
        ).fetchall()
        assert rows == [("new",)]
        connection.execute("delete from rowcast_capture.effects where listener = 'new'")


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


# --- values ---------------------------------------------------------------------------------


async def test_parameters_take_the_type_that_the_statement_wants(
    calls: RunCalls, table: str
) -> None:
    await execute(calls, f"insert into {table} (id, name) values ($1, $2)", "7", 7)
    assert await fetch(calls, f"select id from {table} where name = $1", 7) == [{"id": 7}]
    assert await fetch(calls, f"select id from {table} where id = any($1)", [7, 8]) == [{"id": 7}]
    assert await fetch(calls, "select $1::jsonb as j", {"a": [1]}) == [{"j": {"a": [1]}}]
    assert await fetch(calls, "select $1::jsonb as j", "text") == [{"j": "text"}]
    assert await fetch(calls, "select $1::jsonb[] as j", [[1], "x"]) == [{"j": [[1], "x"]}]
    assert await fetch(calls, "select $1::int[] as a", [[1, 2], [3, 4]]) == [
        {"a": [[1, 2], [3, 4]]}
    ]
    built = "select jsonb_build_object('i', $1, 'f', $2, 's', $3, 'b', $4, 'n', $5, 'd', $6) as j"
    values: list[JsonValue] = [3, 0.5, "x", True, None, {"k": [1]}]
    assert await fetch(calls, "select $1 is null as a, $2 + 1 as b", None, 1) == [
        {"a": True, "b": 2}
    ]
    assert await fetch(calls, built, *values) == [
        {"j": {"i": 3, "f": 0.5, "s": "x", "b": True, "n": None, "d": {"k": [1]}}}
    ]


@pytest.mark.parametrize(
    ("text", "params", "said"),
    [
        ("select 1", [1], "found 1 parameters, expected 0"),
        ("select $1::int + $2::int", [1], "found 1 parameters, expected 2"),
        ("select $1::text", ["a\0b"], "parameter $1 holds the character"),
        ("select $1::bytea", ["no base64!"], "parameter $1: expected base64"),
        ("select $1::int", ["x"], "22P02"),
        ("select 1 as a, 2 as a", [], "more than one column named a"),
        ("select 1; select 2", [], "42601"),
        ("vacuum", [], "25001"),
    ],
)
async def test_a_call_that_cannot_be_says_why_and_harms_no_other(
    calls: RunCalls, text: str, params: list[JsonValue], said: str
) -> None:
    with pytest.raises(HostCallError) as raised:
        await fetch(calls, text, *params)
    assert said in str(raised.value)
    assert await fetch(calls, "select 1 as one") == [{"one": 1}]


ROUND_TRIP = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=30)
TRICKY = st.one_of(TEXT, st.text(alphabet='{}",\\;: NUL\n\t/\x7f\u2028é', max_size=20))
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        TRICKY,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(TRICKY, inner, max_size=4)
    ),
    max_leaves=8,
)
TIMESTAMPS = st.one_of(
    st.datetimes().map(lambda at: at.isoformat(" ")),
    st.sampled_from(["infinity", "-infinity", "0044-03-15 12:00:00 BC", "294276-12-31 23:59:59"]),
)
NUMERICS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda d: format(d, "f")[:200]),
    st.sampled_from(["NaN", "Infinity", "0.000", "1e300"]),
)
FLOATS = st.one_of(st.floats().map(repr), st.sampled_from(["NaN", "-Infinity", "-0", "1e-320"]))
BYTES = st.binary(max_size=20).map(lambda raw: "\\x" + raw.hex())
INTEGERS = st.integers(-(2**63), 2**63 - 1).map(str)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array_of(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    element = st.one_of(st.just("NULL"), item.map(quoted))
    flat = st.lists(element, max_size=4).map(lambda items: "{" + ",".join(items) + "}")
    square = st.lists(st.tuples(element, element), min_size=1, max_size=3).map(
        lambda rows: "{" + ",".join("{" + ",".join(row) + "}" for row in rows) + "}"
    )
    shifted = st.lists(element, min_size=1, max_size=3).map(
        lambda items: f"[0:{len(items) - 1}]={{{','.join(items)}}}"
    )
    return st.one_of(flat, square, shifted)


TYPED_TEXTS = st.one_of(
    *(
        st.tuples(st.just(type_name), texts)
        for type_name, texts in {
            "text": TRICKY,
            "text[]": array_of(TRICKY),
            "int8": INTEGERS,
            "int8[]": array_of(INTEGERS),
            "float8": FLOATS,
            "float8[]": array_of(FLOATS),
            "numeric": NUMERICS,
            "numeric[]": array_of(NUMERICS),
            "timestamptz": TIMESTAMPS,
            "timestamp": TIMESTAMPS,
            "timestamptz[]": array_of(TIMESTAMPS),
            "bytea": BYTES,
            "bytea[]": array_of(BYTES),
            "bool": st.sampled_from(["true", "false"]),
            "bool[]": st.just("{t,f,NULL}"),
            "call_values.mood": st.sampled_from(["ok", "it's", 'a "b", {c}']),
            "call_values.mood[]": array_of(st.sampled_from(["ok", 'a "b", {c}'])),
            "call_values.pair": st.sampled_from(["(1,x)", '(,"a ""b"", c")']),
            "call_values.pair[]": st.just('{"(1,x)",NULL}'),
            "call_values.price": NUMERICS,
            "call_values.price[]": array_of(NUMERICS),
            "call_values.prices": array_of(NUMERICS),
            "box[]": st.just("{(1,1),(0,0);(2,2),(1,1)}"),
            "uuid": st.uuids().map(str),
            "int4range": st.sampled_from(["[1,5)", "empty", "(,)"]),
            "interval": st.sampled_from(["1 day -00:00:01", "3 mons"]),
            "inet[]": st.just("{10.0.0.1/8,::1}"),
            "int2vector": st.just("1 2 3"),
            "tsvector": st.just("'a':1 'b\\\\c':2"),
            "bit(3)": st.just("101"),
            "point": st.just("(1,2.5)"),
        }.items()
    )
)


@pytest.fixture(scope="module")
def own_types(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("drop schema if exists call_values cascade")
        connection.execute("create schema call_values")
        connection.execute("create type call_values.mood as enum ('ok', 'it''s', 'a \"b\", {c}')")
        connection.execute("create type call_values.pair as (a int, b text)")
        connection.execute("create domain call_values.price as numeric")
        connection.execute("create domain call_values.prices as call_values.price[]")


@given(st.lists(TYPED_TEXTS, min_size=1, max_size=8))
@ROUND_TRIP
async def test_any_value_that_is_read_can_be_given_back(
    calls: RunCalls, own_types: None, typed: list[tuple[str, str]]
) -> None:
    del own_types
    for type_name, text in typed:
        row = await fetch_one(calls, f"select $1::text::{type_name} as v", text)
        assert isinstance(row, dict)
        same = await fetch_one(
            calls,
            f"select ($1::{type_name})::text = ($2::text::{type_name})::text as same",
            row["v"],
            text,
        )
        assert same == {"same": True}, (type_name, text, row)


@given(st.lists(JSON_VALUES, min_size=1, max_size=6))
@ROUND_TRIP
async def test_json_comes_back_as_it_was_given(calls: RunCalls, values: list[JsonValue]) -> None:
    for value in values:
        assert await fetch_one(calls, "select $1::json as v", value) == {"v": value}
    flat: list[JsonValue] = [value for value in values if value is not None]
    assert await fetch_one(calls, "select $1::json[] as v", flat) == {"v": flat}
