from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.event_type import EventPattern
from push.conditions import Conditions
from push.errors import MessageError
from push.protocol import (
    Auth,
    Ping,
    Register,
    Unregister,
    answer,
    channel_type,
    error_answer,
    parse_message,
)
from router.delivery import push_type

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
NAMES = ["op", "ref", "pattern", "channel", "key", "filter", "from", "id", "token", "positions"]
OPERATIONS = ["register", "unregister", "auth", "ping"]


def refusal(text: str) -> MessageError:
    with pytest.raises(MessageError) as refused:
        parse_message(text)
    return refused.value


def test_messages_are_read() -> None:
    assert parse_message('{"op":"auth","token":"t","ref":1}') == Auth(1, "t")
    assert parse_message('{"op":"unregister","id":3,"ref":"a"}') == Unregister("a", 3)
    assert parse_message('{"op":"ping"}') == Ping(None, positions=False)
    assert parse_message('{"op":"ping","positions":true}') == Ping(None, positions=True)
    text = '{"op":"register","pattern":"db.**","key":{"id":7},"from":{"a.b.c":[1,-1]}}'
    conditions = Conditions.parse({"id": 7}, None)
    pattern = EventPattern.parse("db.**")
    assert parse_message(text) == Register(None, pattern, conditions, {"a.b.c": [1, -1]})


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{", "bad_json", "found '{'"),
        ("\x00", "bad_json", "expected a JSON object"),
        ('{"op":"ping","ref":NaN}', "bad_json", "expected"),
        ('{"op":' * 5_000, "bad_json", "expected"),
        ('{"op":"ping","ref":' + "[" * 900 + "]" * 900 + "}", "bad_field", "found ref"),
        ("[]", "bad_message", "found []"),
        ("7", "bad_message", "expected a JSON object"),
        ("{}", "unknown_op", "found op None, expected auth, register, unregister, ping"),
        ('{"op":"regster"}', "unknown_op", "'regster'"),
        ('{"op":["ping"]}', "unknown_op", "found op ['ping']"),
        ('{"op":"ping","rfe":1}', "unknown_field", "'rfe'"),
        ('{"op":"ping","ref":true}', "bad_field", "found ref True"),
        ('{"op":"ping","ref":1.5}', "bad_field", "found ref 1.5"),
        ('{"op":"ping","positions":1}', "bad_field", "true or false"),
        ('{"op":"register"}', "bad_field", "neither pattern nor channel"),
        ('{"op":"register","pattern":"db.**","channel":"x"}', "bad_field", "both"),
        ('{"op":"register","pattern":7}', "bad_field", "found pattern 7"),
        ('{"op":"register","pattern":"orders.*"}', "bad_field", "found 'orders'"),
        ('{"op":"register","pattern":"db.**.x"}', "bad_field", "** only as the last"),
        ('{"op":"register","channel":""}', "bad_field", "in channel: found an empty name"),
        ('{"op":"register","channel":"a","key":{}}', "bad_field", "found key {}"),
        ('{"op":"register","channel":"a","filter":[1]}', "bad_field", "found filter [1]"),
        ('{"op":"register","channel":"a","filter":{"b":[]}}', "bad_field", "an empty list"),
        ('{"op":"register","channel":"a","filter":{"b":[{}]}}', "bad_field", "'b'"),
        ('{"op":"register","channel":"a","from":[1]}', "bad_field", "found from [1]"),
        ('{"op":"register","channel":"a","from":{"t":[-2]}}', "bad_field", "expected positions"),
        ('{"op":"register","channel":"a","from":{"t":[true]}}', "bad_field", "expected positions"),
        ('{"op":"unregister","id":"1"}', "bad_field", "found id '1'"),
        ('{"op":"auth"}', "bad_field", "`rowcast token`"),
    ],
)
def test_what_means_nothing_is_answered_with_what_would(text: str, code: str, said: str) -> None:
    error = refusal(text)
    assert error.code == code
    assert said in str(error)
    assert "expected" in str(error)


def test_an_error_carries_the_ref_of_its_message_and_stays_short() -> None:
    error = refusal('{"op":"register","ref":"mine","pattern":"' + "x" * 100_000 + '"}')
    frame = error_answer(error)
    assert json.loads(frame.payload)["ref"] == "mine"
    assert frame.size_bytes < 2_000


def test_an_answer_is_json_in_utf_8() -> None:
    assert answer("x", text="é€").payload == '{"op":"x","text":"é€"}'.encode()


@pytest.mark.parametrize("channel", ["orders", "team.7", "größe", "a b", "-x41", ".a..b."])
def test_a_channel_is_named_as_the_router_names_it(channel: str) -> None:
    assert channel_type(channel) == push_type(channel)


def documented() -> list[str]:
    """The messages of clients in docs/push.md."""
    lines = (Path(__file__).parents[2] / "docs" / "push.md").read_text().splitlines()
    begins = tuple(f'{{"op": "{operation}"' for operation in OPERATIONS)
    return [line for line in lines if line.startswith(begins)]


def test_every_message_in_the_documentation_is_one() -> None:
    said = [parse_message(line) for line in documented()]
    assert {type(message) for message in said} == {Auth, Register, Unregister, Ping}


def test_every_code_of_an_error_is_documented() -> None:
    root = Path(__file__).parents[2]
    source = "".join(file.read_text() for file in (root / "push").glob("*.py"))
    codes = set(re.findall(r'(?:MessageError|\.error)\(\s*"(\w+)"', source))
    codes |= set(re.findall(r'code="(\w+)"', source))
    assert {"bad_json", "unavailable", "slow", "token"} <= codes
    table = (root / "docs" / "push.md").read_text()
    assert [code for code in sorted(codes) if f"`{code}`" not in table] == []


def check(text: str) -> None:
    """The only ways there are: a message, or an error that can be answered."""
    try:
        message = parse_message(text)
    except MessageError as error:
        json.loads(error_answer(error).payload)
    else:
        assert isinstance(message, (Auth, Register, Unregister, Ping))


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    check(text)


@given(JSON)
def test_no_json_raises_anything_else(value: object) -> None:
    check(json.dumps(value))


@given(st.sampled_from(OPERATIONS), st.dictionaries(st.sampled_from(NAMES), JSON))
def test_no_message_raises_anything_else(operation: str, fields: dict[str, object]) -> None:
    check(json.dumps({**fields, "op": operation}))
