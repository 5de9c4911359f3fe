"""PostgreSQL as the oracle: a value's JSON, cast back, is the value."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from events.values import SESSION_SETTINGS
from events.values.types import TypeCatalogue, TypeRow
from tests.events.values.cast_back import cast_text, exact

pytestmark = pytest.mark.integration

Connection = psycopg.Connection[tuple[object, ...]]
_SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def connection(postgres_dsn: str) -> Iterator[Connection]:
    options = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
    with psycopg.connect(postgres_dsn, autocommit=True, options=options) as connected:
        connected.execute("drop schema if exists value_oracle cascade")
        connected.execute("create schema value_oracle")
        connected.execute("set search_path = value_oracle, pg_catalog")
        connected.execute("create type mood as enum ('ok', 'it''s', 'a \"b\", {c}')")
        connected.execute("create type pair as (a int, b text)")
        connected.execute("create domain price as numeric")
        connected.execute("create domain prices as price[]")
        yield connected
        connected.execute("drop schema value_oracle cascade")


def encode_all(
    connection: Connection, type_name: LiteralString, texts: list[str]
) -> list[tuple[str, bytes]]:
    """PostgreSQL's text of each value and its JSON."""
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("select v::{0} from unnest(%s::text[]) v").format(sql.SQL(type_name)), (texts,)
        )
        assert cursor.pgresult is not None
        oid = cursor.pgresult.ftype(0)
        raws = [cursor.pgresult.get_value(row, 0) or b"" for row in range(len(texts))]
    catalogue = TypeCatalogue()
    asked: set[int] = set()
    while missing := catalogue.unknown([oid]) - asked:
        asked |= missing
        rows = connection.execute(
            "select oid::bigint, typtype::text, typbasetype::bigint, typelem::bigint,"
            " typcategory::text, typdelim::text from pg_type where oid = any(%s::oid[])",
            (list(missing),),
        ).fetchall()
        catalogue.add([TypeRow(*row) for row in rows])  # pyright: ignore[reportArgumentType] - columns as asked for
    encode = catalogue.encoder(oid)
    return [(bytes(raw).decode(), encode(bytes(raw))) for raw in raws]


def check(
    connection: Connection, type_name: LiteralString, texts: list[str], *, delimiter: str = ","
) -> None:
    pairs = encode_all(connection, type_name, texts)
    for raw, encoded in pairs:
        back = cast_text(exact(encoded), delimiter=delimiter)
        row = connection.execute(
            sql.SQL("select (%s::{0})::text is not distinct from (%s::{0})::text").format(
                sql.SQL(type_name)
            ),
            (raw, back),
        ).fetchone()
        assert row == (True,), (raw, encoded, back)


def batch(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(strategy, min_size=1, max_size=20)


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=40)
TRICKY = st.one_of(TEXT, st.text(alphabet='{}",\\;: NUL\n\t/\x7f\u2028é', max_size=20))
FLOATS = st.one_of(
    st.floats().map(repr), st.sampled_from(["NaN", "Infinity", "-Infinity", "-0", "1e-320", "1e22"])
)
NUMERICS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=None).map(
        lambda d: format(d, "f")[:300]
    ),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "0.000", "1e500", "-12.30"]),
)
TIMESTAMPS = st.one_of(
    st.datetimes().map(lambda d: d.isoformat(" ")),
    st.sampled_from(
        [
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00 BC",
            "4713-01-01 00:00:00 BC",
            "10000-01-01 00:00:00",
            "294276-12-31 23:59:59.999999",
            "0001-01-01",
            "9999-12-31 23:59:59.999999",
        ]
    ),
)
INTERVALS = st.tuples(
    st.integers(-100_000, 100_000), st.integers(-100_000, 100_000), st.integers(-(10**15), 10**15)
).map(lambda parts: f"{parts[0]} months {parts[1]} days {parts[2]} microseconds")
JSON_DOCUMENTS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=8,
).map(lambda value: json.dumps(value, ensure_ascii=False))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def array_of(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    element = st.one_of(st.just("NULL"), item.map(quoted))
    flat = st.lists(element, max_size=6).map(lambda items: "{" + ",".join(items) + "}")
    square = st.lists(st.tuples(element, element), min_size=1, max_size=4).map(
        lambda rows: "{" + ",".join("{" + ",".join(row) + "}" for row in rows) + "}"
    )
    shifted = st.tuples(st.integers(-5, 5), st.lists(element, min_size=1, max_size=4)).map(
        lambda both: f"[{both[0]}:{both[0] + len(both[1]) - 1}]={{{','.join(both[1])}}}"
    )
    return st.one_of(flat, square, shifted)


@given(batch(TRICKY))
@_SETTINGS
def test_text_comes_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "text", texts)
    assert [json.loads(encoded) for _, encoded in encode_all(connection, "text", texts)] == texts


@given(batch(st.integers(-(2**63), 2**63 - 1).map(str)))
@_SETTINGS
def test_integers_come_back_as_numbers(connection: Connection, texts: list[str]) -> None:
    check(connection, "int8", texts)
    assert all(
        isinstance(json.loads(encoded), int) for _, encoded in encode_all(connection, "int8", texts)
    )


@given(batch(FLOATS))
@_SETTINGS
def test_floats_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "float8", texts)


@given(batch(st.floats(width=32).map(repr)))
@_SETTINGS
def test_small_floats_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "float4", texts)


@given(batch(NUMERICS))
@_SETTINGS
def test_numerics_come_back_with_their_scale(connection: Connection, texts: list[str]) -> None:
    check(connection, "numeric", texts)
    check(connection, "price", texts)


@given(batch(TIMESTAMPS))
@_SETTINGS
def test_timestamps_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "timestamp", texts)
    check(connection, "timestamptz", texts)


@given(batch(st.datetimes().map(lambda d: d.isoformat(" "))))
@_SETTINGS
def test_timestamps_that_iso_8601_holds_are_in_it(connection: Connection, texts: list[str]) -> None:
    for text, (_, encoded) in zip(texts, encode_all(connection, "timestamptz", texts), strict=True):
        expected = dt.datetime.fromisoformat(text).isoformat("T", "microseconds") + "Z"
        assert json.loads(encoded) == expected
    for text, (_, encoded) in zip(texts, encode_all(connection, "timestamp", texts), strict=True):
        assert json.loads(encoded) == dt.datetime.fromisoformat(text).isoformat("T", "microseconds")


@given(batch(TIMESTAMPS.map(lambda text: text.replace("10000-01-01 00:00:00", "10000-01-01"))))
@_SETTINGS
def test_dates_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "date", texts)


@given(batch(INTERVALS))
@_SETTINGS
def test_intervals_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "interval", texts)


@given(batch(st.binary(max_size=50).map(lambda raw: "\\x" + raw.hex())))
@_SETTINGS
def test_bytes_come_back_from_base64(connection: Connection, texts: list[str]) -> None:
    for text, (_, encoded) in zip(texts, encode_all(connection, "bytea", texts), strict=True):
        assert base64.b64decode(json.loads(encoded), validate=True).hex() == text[2:]


@given(batch(JSON_DOCUMENTS))
@_SETTINGS
def test_json_is_embedded_as_it_is(connection: Connection, texts: list[str]) -> None:
    stored = [text for text in texts if "\\u0000" not in text]
    for type_name in ("json", "jsonb"):
        for raw, encoded in encode_all(connection, type_name, stored):
            assert encoded == raw.encode()


@given(batch(array_of(TRICKY)))
@_SETTINGS
def test_arrays_of_text_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "text[]", texts)


@given(batch(array_of(st.integers(-(2**31), 2**31 - 1).map(str))))
@_SETTINGS
def test_arrays_of_integers_come_back(connection: Connection, texts: list[str]) -> None:
    check(connection, "int4[]", texts)


@given(batch(array_of(TIMESTAMPS)), batch(array_of(FLOATS)))
@_SETTINGS
def test_arrays_hold_each_element_as_its_type(
    connection: Connection, times: list[str], floats: list[str]
) -> None:
    check(connection, "timestamptz[]", times)
    check(connection, "float8[]", floats)


@given(batch(array_of(NUMERICS)))
@_SETTINGS
def test_arrays_of_domains_and_domains_of_arrays_come_back(
    connection: Connection, texts: list[str]
) -> None:
    check(connection, "price[]", texts)
    check(connection, "prices", texts)


@pytest.mark.parametrize(
    ("type_name", "texts"),
    [
        ("bool", ["true", "false"]),
        ("bool[]", ["{t,f,NULL}"]),
        ("mood", ["ok", "it's", 'a "b", {c}']),
        ("mood[]", ['{ok,NULL,"a \\"b\\", {c}"}']),
        ("pair", ["(1,x)", '(,"a ""b"", c")']),
        ("pair[]", ['{"(1,x)",NULL}']),
        ("uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("inet", ["10.0.0.1/8", "::1"]),
        ("cidr", ["10.0.0.0/8"]),
        ("macaddr", ["08:00:2b:01:02:03"]),
        ("time", ["24:00:00", "01:02:03.5"]),
        ("timetz", ["01:02:03+05:30"]),
        ("int4range", ["[1,5)", "empty", "(,)"]),
        ("int4multirange", ["{[1,2),[5,7)}"]),
        ("tsvector", ["'a':1 'b\\\\c':2"]),
        ("bit(3)", ["101"]),
        ("point", ["(1,2.5)"]),
        ("money", ["-1234.50"]),
        ("int2vector", ["1 2 3"]),
        ("oid", ["4294967295"]),
        ("xid8", ["18446744073709551615"]),
        ("pg_lsn", ["16/B374D848"]),
        ('"char"', ["x", "\\"]),
        ("bpchar(4)", ["ab"]),
        ("jsonpath", ['$."a b"[*]']),
    ],
)
def test_every_other_type_comes_back(
    connection: Connection, type_name: LiteralString, texts: list[str]
) -> None:
    check(connection, type_name, texts)


def test_arrays_of_boxes_have_a_delimiter_of_their_own(connection: Connection) -> None:
    check(connection, "box[]", ["{(1,1),(0,0);(2,2),(1,1)}"], delimiter=";")
