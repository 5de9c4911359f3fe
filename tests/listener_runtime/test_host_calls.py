from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue, encode
from events.run import RunRequest
from infra.embedded.postgres import EmbeddedPostgres
from listener_runtime.errors import HostCallError, SandboxError
from listener_runtime.host_call_steps import Steps, idempotency_key
from listener_runtime.host_calls import CALL_NAMES, HostCalls, RunCalls
from listener_runtime.settings import HostSettings, MongoAccess, PostgresAccess

pytestmark = pytest.mark.anyio

NOWHERE = HostSettings(
    {
        "shop": PostgresAccess("postgresql://127.0.0.1:1/shop"),
        "docs": MongoAccess("mongodb://127.0.0.1:1/", "shop"),
    }
)


def request(timeout_s: float = 30.0) -> RunRequest:
    run, event = uuid.uuid4().hex, uuid.uuid4().hex
    return RunRequest(run, "second", "", b"{}", event, Chain("root"), timeout_s=timeout_s)


@pytest.fixture
async def calls() -> AsyncGenerator[RunCalls]:
    host = HostCalls(NOWHERE)
    calls = host.open(request())
    yield calls
    await calls.close()
    await host.close()


REFUSED: list[tuple[str, JsonObject, str]] = [
    ("db.drop", {}, "found the call 'db.drop', expected one of db.execute"),
    ("db.fetch", {}, "missing required field `sql`"),
    ("db.fetch", {"sql": "select 1"}, "found no source, expected one of docs, shop"),
    ("db.fetch", {"sql": "select 1", "source": "x"}, "found the source 'x', expected docs, shop"),
    ("db.fetch", {"sql": 1, "source": "shop"}, "Expected `str`, got `int` - at `$.sql`"),
    ("db.fetch", {"sql": "", "source": "shop", "no": 1}, "unknown field `no`; expected sql"),
    ("db.fetch", {"sql": "", "source": "shop", "params": {}}, "$.params"),
    ("db.fetch", {"sql": "", "source": "shop", "limit": -1}, "found limit -1"),
    ("db.fetch", {"sql": "", "source": "shop", "tx": 1}, "found the transaction 1"),
    ("db.fetch", {"sql": "a\0", "source": "shop"}, "\\u0000"),
    ("db.execute", {"sql": "x" * 2_000_000, "source": "shop"}, "2000000 bytes"),
    ("db.execute", {"sql": "", "source": "docs"}, "is a MongoDB, which is used with mongo.find"),
    ("db.begin", {}, "source"),
    ("db.begin", {"source": "docs"}, "is a MongoDB"),
    ("db.commit", {"tx": "1"}, "Expected `int`"),
    ("db.rollback", {"tx": 7}, "found the transaction 7"),
    ("mongo.find", {"source": "shop", "collection": "c"}, "is a PostgreSQL, which is used with db"),
    ("mongo.find", {"source": "docs"}, "missing required field `collection`"),
    ("mongo.find", {"source": "docs", "collection": ""}, "collection name"),
    ("mongo.find", {"source": "docs", "collection": "a$b"}, "collection name"),
    ("http.request", {"method": "GET"}, "missing required field `url`"),
    ("http.request", {"method": "GET", "url": "http://a/"}, "a:80 may not be called"),
]


@pytest.mark.parametrize(("name", "args", "said"), REFUSED)
async def test_what_is_refused_says_what_was_found_and_expected(
    calls: RunCalls, name: str, args: JsonObject, said: str
) -> None:
    with pytest.raises(HostCallError) as raised:
        await calls.call(name, args)
    assert said in str(raised.value)


async def test_wrong_settings_of_http_are_said() -> None:
    with pytest.raises(SandboxError, match="expected host:port"):
        HostCalls(HostSettings(http_allow=("https://x",)))


async def test_a_caller_that_is_cancelled_is_cancelled(calls: RunCalls) -> None:
    args: JsonObject = {"source": "docs", "collection": "c"}
    call = asyncio.create_task(calls.call("mongo.find", args))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_run_that_ends_ends_what_is_in_flight(calls: RunCalls) -> None:
    args: JsonObject = {"source": "docs", "collection": "c"}
    call = asyncio.create_task(calls.call("mongo.find", args))
    await asyncio.sleep(0)
    await calls.close()
    with pytest.raises(HostCallError, match="the run has ended"):
        await call
    with pytest.raises(HostCallError, match="the run has ended"):
        await calls.call("mongo.find", args)
    await calls.close()


# --- anything a guest can send --------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.text(max_size=6),
                st.sampled_from(
                    [
                        *("$set", "$match", "$lookup", "from", "pipeline", "$oid", "$date"),
                        *("$code", "$numberLong", "$numberDecimal", "$binary", "_id"),
                        "$regularExpression",
                    ]
                ),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON_VALUES, max_size=4)
SQL = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            *("", " ; ", "--", "/*", "select", "select 1", "select $1", "select $1, $2::jsonb"),
            *("select $1::int[]", "select $1::bytea", "select $1::text[]", "values ($1)"),
            *("select null::int[]", "select '{}'::json[]", "select ''", "table pg_namespace"),
            *("select $3", "select $0", "select $99999", "listen x", "notify x", "show all"),
            *("declare c cursor for select 1", "explain select 1", "do 'begin end'", "set x = 1"),
            *("select pg_notify('x', 'y')", "select 'a'::name \"\"", 'select 1 as "a""b"'),
        ]
    ),
)


@st.composite
def arguments(draw: st.DrawFn) -> tuple[str, JsonObject]:
    name = draw(st.sampled_from(CALL_NAMES))
    args: dict[str, JsonValue] = {}
    if name.startswith("db."):
        args |= {"source": "shop", "sql": draw(SQL), "params": draw(st.lists(JSON_VALUES))[:4]}
    elif name.startswith("mongo."):
        args |= {"source": "docs", "collection": draw(st.sampled_from(["c", "d.e", "..", "é"]))}
        for field in ("filter", "update", "projection"):
            if draw(st.booleans()):
                args[field] = draw(OBJECTS)
        for field in ("update", "documents", "pipeline"):
            if draw(st.booleans()):
                args[field] = [*draw(st.lists(OBJECTS, max_size=3))]
    else:
        args |= {"method": "POST", "url": draw(st.text()), "json": draw(JSON_VALUES)}
    if draw(st.integers(0, 3)) == 0:
        args |= draw(OBJECTS)
    if draw(st.integers(0, 9)) == 0 and args:
        args[draw(st.sampled_from(sorted(args)))] = draw(JSON_VALUES)
    return name, args


@pytest.fixture
async def real(postgres: EmbeddedPostgres, mongo_uri: str) -> AsyncGenerator[HostCalls]:
    host = HostCalls(
        HostSettings(
            {
                "shop": PostgresAccess(postgres.listener_dsn("shop")),
                "docs": MongoAccess(mongo_uri, f"d{uuid.uuid4().hex[:12]}"),
            }
        )
    )
    yield host
    await host.close()


@pytest.mark.integration
@given(st.lists(arguments(), min_size=1, max_size=12))
@example(
    [("db.fetch", {"source": "shop", "sql": ""}), ("db.execute", {"source": "shop", "sql": ""})]
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_a_guest_sends_it_gets_json_or_an_error_it_can_read(
    real: HostCalls, caplog: pytest.LogCaptureFixture, sent: list[tuple[str, JsonObject]]
) -> None:
    calls = real.open(request())
    for name, args in sent:
        with contextlib.suppress(HostCallError):
            encode(await calls.call(name, args))
    one = await calls.call("db.fetch", {"source": "shop", "sql": "select 1 as one"})
    assert one == {"rows": [{"one": 1}]}
    await calls.close()
    assert not [record for record in caplog.records if record.exc_info]


# --- steps ----------------------------------------------------------------------------------


def test_a_step_is_what_is_asked_for_and_how_often() -> None:
    first, retry = Steps(), Steps()
    taken = [first.take("a", 1), first.take("b", 1), first.take("a", 1), first.take("a", "1")]
    assert len(set(taken)) == 4
    assert [retry.take("a", 1), retry.take("a", 1), retry.take("b", 1)] == [
        taken[0],
        taken[2],
        taken[1],
    ]
    retry.give_back(taken[2])
    assert retry.take("a", 1) == taken[2]


def test_keys_of_different_effects_differ() -> None:
    keys = {
        idempotency_key(event, listener, step)
        for event in ("e", "e1", "")
        for listener in ("l", "1l", "")
        for step in ("s:1", "s:2")
    }
    assert len(keys) == 18
