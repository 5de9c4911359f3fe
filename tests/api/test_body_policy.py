from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body_policy import BodyPolicy
from api.json_path import REDACTED, JsonPath
from events.json_codec import JsonValue

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3)
    ),
)


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("$.card.number", {"card": {"number": 1, "cvc": 2}}, {"card": {"number": "X", "cvc": 2}}),
        ("$.i[*].t", {"i": [{"t": 1}, {"a": 2}, 3]}, {"i": [{"t": "X"}, {"a": 2}, 3]}),
        ("$['a.b'][0]", {"a.b": [1, 2]}, {"a.b": ["X", 2]}),
        ("$..p", {"p": 1, "b": [{"p": [2]}]}, {"p": "X", "b": [{"p": "X"}]}),
        ("$[*].a", [{"a": 1}, {"a": 2}], [{"a": "X"}, {"a": "X"}]),
        ("$.*", {"a": 1, "b": 2}, {"a": "X", "b": "X"}),
        ("$.a[9]", {"a": [1]}, {"a": [1]}),
        ("$.a.b", "text", "text"),
    ],
)  # fmt: skip
def test_a_path_takes_out_what_it_names(path: str, before: JsonValue, after: JsonValue) -> None:
    JsonPath.parse(path).redact(before)
    assert json.dumps(before) == json.dumps(after).replace('"X"', json.dumps(REDACTED))


@given(VALUES, st.sampled_from(["$..a", "$.a.b", "$[*].b", "$..*", "$..a[0]", "$..b..a"]))
def test_redacting_again_changes_nothing_and_keeps_the_rest(value: JsonValue, text: str) -> None:
    path, before = JsonPath.parse(text), copy.deepcopy(value)
    count = path.redact(value)
    assert count or value == before
    once = copy.deepcopy(value)
    path.redact(value)
    assert value == once


@pytest.mark.parametrize("text", ["card", "$", "$.", "$[?(@.a)]", "$[1:2]", "$.a[", "$..", "$.a b"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        JsonPath.parse(text)


def test_a_body_is_shown_as_far_as_it_may_be() -> None:
    policy = BodyPolicy.parse("both", ["$.n", "headers.X-Own", "parameters.t"], 1, each_row=True)
    kind = "application/json; charset=utf-8"

    def shown(body: bytes, content_type: str = kind, which: BodyPolicy = policy) -> JsonValue:
        return which.described((), body, content_type)["body"]

    assert shown(b'{"n": 1, "m": 2}') == {"n": REDACTED, "m": 2}
    assert shown(b'[{"n": 1}, {"n": 2}]') == [{"n": REDACTED}, {"n": REDACTED}]
    assert shown(b"n=1&m=2", "application/x-www-form-urlencoded") == {"n": REDACTED, "m": "2"}
    assert shown(b"n=1", "text/plain") is None
    assert shown(b"n=1", "text/plain", BodyPolicy.parse("both", [])) == "n=1"
    assert shown(b"\xff\x00", "application/octet-stream", BodyPolicy.parse("both", [])) is None
    assert shown(b"{broken", kind) is None
    assert shown(b"[" * 100_000, kind) is None
    assert shown(b"[" * 200 + b"]" * 200, kind) is not None
    assert shown(b"[" * 253 + b"]" * 253, kind) is None
    assert shown(b"0" * 2_000_000, kind) is None
    control = BodyPolicy.parse("both", [], 1).described((), b"\x01" * 5_000, "text/plain")
    assert len(json.dumps(control["body"])) < 1_100
    large = policy.described((), b'{"n": 1, "text": "' + "ä".encode() * 2_000 + b'"}', kind)
    assert (large["cut"], large["bytes"]) == (True, 4_020)
    assert str(large["body"]).startswith('{"n":"[redacted]","text":"ää')
    headers = [("Authorization", "Bearer x"), ("X-Own", "1"), ("Accept", "y" * 5_000)]
    found = policy.described(headers, b"", "")["headers"]
    assert found == {"authorization": REDACTED, "x-own": REDACTED, "accept": "y" * 1_000}
    assert policy.parameters({"t": "1", "u": "2"}) == {"t": REDACTED, "u": "2"}
