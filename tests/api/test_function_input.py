from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.custom_api import CustomApi
from api.errors import ApiError
from api.function_input import (
    CodeBody,
    checked_query,
    query_object,
    query_pairs,
    read_query,
    visible_headers,
)
from events.event_schema import JsonSchema
from events.json_codec import JsonObject

SCHEMA: dict[str, object] = {
    "required": ["id"],
    "properties": {
        "id": {"type": "integer"},
        "price": {"type": ["number", "string"]},
        "open": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "number"}},
    },
}


def checked(text: str, method: str = "GET") -> object:
    api = CustomApi(name="a", code="", schema=SCHEMA)
    return checked_query(
        api, JsonSchema("a", json.loads(json.dumps(SCHEMA))), method, read_query(text)
    )


def test_parameters_are_read_as_the_types_that_the_schema_names() -> None:
    assert checked("id=5&price=7&open=true&tags=1&more=2") == {
        "id": 5,
        "price": "7",
        "open": True,
        "tags": [1],
        "more": "2",
    }
    assert checked("id=5&tags=1&tags=2.5") == {"id": 5, "tags": [1, 2.5]}
    # With a body the schema is the body's.
    assert checked("id=x", "POST") == {"id": "x"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "$"),
        ("id=x", "$.id"),
        ("id=true", "$.id"),
        ("id=1&id=2", "$.id"),
        ("id=1&open=1", "$.open"),
    ],
)
def test_a_parameter_against_the_schema_is_refused_with_its_path(text: str, path: str) -> None:
    with pytest.raises(ApiError) as caught:
        checked(text)
    assert caught.value.status == 422
    assert json.loads(caught.value.details or "")["path"] == path


@pytest.mark.parametrize(
    ("data", "content_type", "expected"),
    [
        (b"", "application/json", CodeBody(None)),
        (b'{"a": 1}', "application/json; charset=utf-8", CodeBody({"a": 1})),
        (b"[1]", "application/vnd.x+json", CodeBody([1])),
        (b"[1]", "", CodeBody([1])),
        (b"plain", "", CodeBody("plain")),
        (b"[1]", "text/plain", CodeBody("[1]")),
        (b"a=b", "application/x-www-form-urlencoded", CodeBody("a=b")),
        (b"\xff\x00", "application/octet-stream", CodeBody("/wA=", is_base64=True)),
    ],
)
def test_a_body_is_json_text_or_base64(data: bytes, content_type: str, expected: CodeBody) -> None:
    assert CodeBody.of(data, content_type) == expected


def test_a_body_that_says_it_is_json_and_is_not_is_refused() -> None:
    with pytest.raises(ApiError, match="Empty or invalid json"):
        CodeBody.of(b"{", "application/json")


def test_code_does_not_see_what_the_caller_proves_itself_with() -> None:
    headers = {"authorization": "Bearer x", "apikey": "x", "cookie": "a=b", "x-own": "1"}
    assert visible_headers(headers) == {"x-own": "1"}


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=8))
def test_a_query_goes_to_code_and_back_unchanged_but_for_the_order_of_names(
    pairs: list[tuple[str, str]],
) -> None:
    back = query_pairs(query_object(pairs))
    by_name = {name: [value for one, value in pairs if one == name] for name, _ in pairs}
    assert {name: [v for one, v in back if one == name] for name, _ in back} == by_name


def test_a_query_that_no_address_holds_is_refused() -> None:
    assert query_pairs({"a": [1, True, "x"]}) == [("a", "1"), ("a", "true"), ("a", "x")]
    meaningless: list[JsonObject] = [{"a": None}, {"a": {"b": 1}}, {"a": [[1]]}]
    for value in meaningless:
        with pytest.raises(ValueError, match="as the parameter"):
            query_pairs(value)
