from __future__ import annotations

import pytest

from api.hook_answer import HookAnswer, MeaninglessError, Refusal, hook_answer
from events.json_codec import JsonValue


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, HookAnswer()),
        ({}, HookAnswer()),
        ({"body": None}, HookAnswer(has_body=True)),
        ({"query": {"a": "b"}}, HookAnswer({"a": "b"})),
        ({"query": {}, "body": [1]}, HookAnswer({}, [1], has_body=True)),
        ({"refuse": "no"}, Refusal("no")),
        ({"refuse": {}}, Refusal("The call was refused")),
        ({"refuse": {"status": 402}}, Refusal("The call was refused", 402, "RC402")),
        (
            {"refuse": {"status": 409, "code": "X", "message": "m", "details": "d", "hint": "h"}},
            Refusal("m", 409, "X", "d", "h"),
        ),
    ],
)
def test_a_hook_goes_on_changes_or_refuses(
    result: JsonValue, expected: HookAnswer | Refusal
) -> None:
    assert hook_answer(result) == expected


@pytest.mark.parametrize(
    "result",
    [
        True,
        "no",
        [1],
        {"allow": True},
        {"body": 1, "refuse": "no"},
        {"query": "a=b"},
        {"refuse": None},
        {"refuse": False},
        {"refuse": {"status": 200}},
        {"refuse": {"status": True}},
        {"refuse": {"status": "403"}},
        {"refuse": {"message": 1}},
        {"refuse": {"why": "no"}},
    ],
)
def test_what_a_hook_returns_and_means_nothing_lets_nothing_through(result: JsonValue) -> None:
    with pytest.raises(MeaninglessError):
        hook_answer(result)
