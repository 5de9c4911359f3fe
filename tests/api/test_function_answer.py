from __future__ import annotations

import pytest

from api.answer import JSON
from api.function_answer import IllegalAnswerError, function_answer
from events.json_codec import JsonValue


@pytest.mark.parametrize(
    ("result", "status", "body", "content_type"),
    [
        (None, 200, b"null", JSON),
        ("text", 200, b'"text"', JSON),
        ({"status": "shipped", "body": 1}, 200, b'{"status":"shipped","body":1}', JSON),
        ({"status": True}, 200, b'{"status":true}', JSON),
        ({"status": 7, "total": 1}, 200, b'{"status":7,"total":1}', JSON),
        ({"body": "x"}, 200, b'{"body":"x"}', JSON),
        ({"status": 201, "body": {"a": 1}}, 201, b'{"a":1}', JSON),
        ({"status": 201, "body": "é"}, 201, "é".encode(), "text/plain; charset=utf-8"),
        ({"status": 201}, 201, b"", None),
        ({"status": 200, "body": None}, 200, b"null", JSON),
        ({"status": 204, "body": "x"}, 204, b"", None),
        (
            {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "<p>"},
            200,
            b"<p>",
            "text/html",
        ),
        (
            {"status": 200, "body": "AAE=", "base64": True},
            200,
            b"\x00\x01",
            "application/octet-stream",
        ),
    ],
)
def test_what_is_returned_is_json_unless_it_says_a_status(
    result: JsonValue, status: int, body: bytes, content_type: str | None
) -> None:
    answer = function_answer(result)
    assert (answer.status, answer.body, answer.content_type) == (status, body, content_type)


def test_headers_are_sent_one_by_one() -> None:
    answer = function_answer({"status": 200, "headers": {"Set-Cookie": ["a=1", "b=2"], "X-N": 5}})
    assert answer.headers == (("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-n", "5"))


@pytest.mark.parametrize(
    "result",
    [
        {"status": 199},
        {"status": 600},
        {"status": -1},
        {"status": 200, "headers": []},
        {"status": 200, "headers": {"x": "a\r\nb: c"}},
        {"status": 200, "headers": {"x": "a\x00"}},
        {"status": 200, "headers": {"x": "\u2028"}},
        {"status": 200, "headers": {"x": " a"}},
        {"status": 200, "headers": {"x": None}},
        {"status": 200, "headers": {"x": {"a": "b"}}},
        {"status": 200, "headers": {"x": "a" * 8_001}},
        {"status": 200, "headers": {"x\n": "a"}},
        {"status": 200, "headers": {"": "a"}},
        {"status": 200, "headers": {"Content-Length": "1"}},
        {"status": 200, "headers": {"TRANSFER-ENCODING": "chunked"}},
        {"status": 200, "headers": {"rowcast-call": "x"}},
        {"status": 200, "headers": {f"x{number}": "a" for number in range(101)}},
        {"status": 200, "headers": {"content-type": "a\nb"}},
        {"status": 200, "body": "?", "base64": True},
        {"status": 200, "body": 1, "base64": True},
    ],
)
def test_an_answer_that_http_cannot_send_is_refused(result: JsonValue) -> None:
    with pytest.raises(IllegalAnswerError):
        function_answer(result)
