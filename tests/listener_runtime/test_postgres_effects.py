from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from events.json_codec import JsonValue
from infra.embedded.postgres import EmbeddedPostgres
from listener_runtime import postgres_effects
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.settings import HostSettings, PostgresAccess
from tests.listener_runtime.postgres_calls import CHAIN, begin, execute, fetch, fetch_one, request

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


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
