from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.json_codec import JsonValue
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import RunCalls
from tests.listener_runtime.postgres_calls import execute, fetch, fetch_one

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


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
