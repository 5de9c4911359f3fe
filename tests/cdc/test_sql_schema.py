"""What `rowcast.emit` refuses is what our own validator refuses: both on the same cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from cdc.emit_functions import FUNCTIONS
from cdc.postgres_emit import function_creation
from cdc.sql_pattern import PatternDifferenceError, postgres_pattern
from cdc.sql_schema import sql_schema
from events.errors import InvalidDataError, InvalidSchemaError
from events.event_schema import JsonSchema
from events.json_codec import JsonValue

Connection = psycopg.Connection[tuple[object, ...]]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def checker(postgres_dsn: str) -> Iterator[Connection]:
    """A session with the functions, which are rolled back in the end."""
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("create schema if not exists rowcast")
        for function in FUNCTIONS:
            connection.execute(function_creation(function))
        yield connection
        connection.rollback()


def in_sql(checker: Connection, schema: JsonValue, data: JsonValue) -> list[str] | None:
    """The problem and its path."""
    made = sql_schema(schema)
    assert made.form is not None
    assert not made.unchecked
    row = checker.execute(
        "select rowcast.schema_problem(%s, %s, %s, '$')",
        (Jsonb(made.form["schema"]), Jsonb(made.form["refs"]), Jsonb(data)),
    ).fetchone()
    assert row is not None
    problem = row[0]
    return None if problem is None else cast("list[str]", problem)


def in_python(schema: JsonValue, data: JsonValue) -> bool:
    try:
        JsonSchema("x", schema).check(data)
    except InvalidDataError:
        return False
    return True


NAMES = st.sampled_from(["a", "b", "n1", "x y", "it's"])
TEXTS = st.text(st.sampled_from("ab1 -\n@é"), max_size=4) | st.sampled_from(
    [
        "2024-02-29",
        "2023-02-29",
        "0000-01-01",
        "a@b",
        "1.2.3.4",
        "1.2.3.04",
        "256.1.1.1",
        "1.2.3.4.",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    ]
)
NUMBERS = st.integers(-4, 4) | st.sampled_from([0.1, 0.3, 0.5, 1.0, 1.5, -2.0, 1e20, 2**60])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["null", "boolean", "object", "array", "number", "integer", "string"])
PATTERNS = st.sampled_from(
    [
        "^a",
        "b$",
        r"^\d+$",
        "[^ab]",
        "a|1",
        "(ab)?1",
        "a{1,2}b",
        ".",
        r"\bb",
        r"^(?!a)",
        "[a-b-]+$",
        r"\Z",
    ]
)
COUNTS = st.integers(0, 3)


def keywords(inner: st.SearchStrategy[JsonValue]) -> st.SearchStrategy[JsonValue]:
    named, several = (
        st.dictionaries(NAMES, inner, max_size=3),
        st.lists(inner, min_size=1, max_size=3),
    )
    names = st.lists(NAMES, max_size=2, unique=True)
    words: dict[str, st.SearchStrategy[object]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), NUMBERS),
        "multipleOf": st.sampled_from([1, 2, 3, 0.1, 0.5, 1.5]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), COUNTS),
        **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), COUNTS),
        "pattern": PATTERNS,
        "format": st.sampled_from(["date", "email", "ipv4", "uuid", "date-time", "made-up"]),
        "required": names,
        "uniqueItems": st.booleans(),
        "dependentRequired": st.dictionaries(NAMES, names, max_size=2),
        "dependentSchemas": named,
        "properties": named,
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        **dict.fromkeys(("additionalProperties", "propertyNames", "items", "contains"), inner),
        **dict.fromkeys(("not", "if", "then", "else"), inner),
        **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), several),
        "$ref": st.just("#/$defs/x~1y"),
        "title": st.just("of no meaning"),
    }
    some = st.lists(st.sampled_from(sorted(words)), min_size=1, max_size=4, unique=True)
    made = some.flatmap(lambda chosen: st.fixed_dictionaries({one: words[one] for one in chosen}))
    return cast("st.SearchStrategy[JsonValue]", made)


# Small ones often, since what is wrong with a keyword shows where it is alone.
SMALL = keywords(st.booleans())
SCHEMAS = SMALL | st.recursive(st.booleans() | keywords(st.booleans()), keywords, max_leaves=5)


@given(
    SCHEMAS,
    SCHEMAS.filter(lambda one: "$ref" not in json.dumps(one)),
    st.lists(VALUES | NUMBERS, min_size=10, max_size=10),
)
@settings(max_examples=200)
def test_any_schema_gives_one_verdict_in_sql_and_in_python(
    checker: Connection, schema: JsonValue, other: JsonValue, values: list[JsonValue]
) -> None:
    if isinstance(schema, dict):
        schema["$defs"] = {"x/y": other}
    for value in values:
        assert (in_sql(checker, schema, value) is None) is in_python(schema, value), value


ORDER: JsonValue = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {"properties": {"price": {"type": "number", "minimum": 0}}},
        },
        "x y": {"enum": ["a", 1]},
    },
    "required": ["items"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("data", "problem", "path"),
    [
        ({"items": [{}, {"price": -1}]}, "found -1, expected at least 0", "$.items[1].price"),
        ({"items": 7}, "found 7, expected the type array", "$.items"),
        ({"items": [], "x y": 2}, 'found 2, expected one of ["a", 1]', "$['x y']"),
        ({"items": [], "z": [1]}, "found [1], expected nothing there", "$.z"),
        ({}, 'found {}, expected the required "items"', "$"),
    ],
)
def test_a_refusal_names_the_value_what_was_expected_and_the_path(
    checker: Connection, data: JsonValue, problem: str, path: str
) -> None:
    assert in_sql(checker, ORDER, data) == [problem, path]


def test_a_schema_that_refers_to_itself_walks_a_tree(checker: Connection) -> None:
    tree: JsonValue = {
        "properties": {"n": {"type": "integer"}, "children": {"items": {"$ref": "#"}}}
    }
    assert in_sql(checker, tree, {"children": [{"n": 1, "children": [{"n": 2.0}]}]}) is None
    assert in_sql(checker, tree, {"children": [{"children": [{"n": "x"}]}]}) == [
        'found "x", expected the type integer',
        "$.children[0].children[0].n",
    ]


@pytest.mark.parametrize(
    ("schema", "unchecked", "all_of_it"),
    [
        (
            {"properties": {"a": {"unevaluatedItems": False}}},
            "$.properties.a.unevaluatedItems: unevaluatedItems",
            False,
        ),
        ({"not": {"format": "ipv6"}}, "$.not.format: the format ipv6", True),
        ({"pattern": r"(a)\1"}, r"$.pattern: the escape \1", False),
        (
            {"patternProperties": {"(?i)a": True}, "additionalProperties": False},
            "$.patternProperties.(?i)a: the group '(?i)'",
            True,
        ),
        ({"$ref": "http://127.0.0.1:9/x"}, "$.$ref: the reference http://127.0.0.1:9/x", False),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            "$: the draft http://json-schema.org/draft-07/schema#",
            True,
        ),
    ],
)
def test_what_sql_cannot_check_is_named_and_never_makes_it_refuse_more(
    schema: JsonValue, unchecked: str, *, all_of_it: bool
) -> None:
    made = sql_schema(schema)
    assert made.unchecked == (unchecked,)
    assert (made.form is None) is all_of_it


@pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
@given(st.from_regex(r"[ab\[\]()^$.|*+?{}\\dwsDWSbBAZ1,n\-]{1,8}", fullmatch=True), TEXTS)
@settings(max_examples=300)
def test_a_pattern_matches_in_postgresql_what_it_matches_in_python(
    checker: Connection, pattern: str, text: str
) -> None:
    try:
        JsonSchema("x", {"pattern": pattern})
        translated = postgres_pattern(pattern)
    except (InvalidSchemaError, PatternDifferenceError):
        return
    expected = in_python({"pattern": pattern}, text)
    with checker.transaction(force_rollback=True):
        try:
            row = checker.execute("select %s ~ %s", (text, translated)).fetchone()
        except psycopg.errors.InvalidRegularExpression:
            return  # so it is said when the schema is installed
    assert row == (expected,), translated
