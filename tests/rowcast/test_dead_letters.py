from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord

from events.json_codec import encode
from rowcast.dead_letters import DeadLetter, folded, mark_of


def record(value: bytes) -> ConsumerRecord:
    return ConsumerRecord("rowcast.dead", 0, 0, 0, 0, b"k", value, None, 1, len(value), ())


def death(at_ms: int) -> ConsumerRecord:
    event = {"id": "e", "type": "custom.x"}
    return record(encode({"id": "run_1", "listener": "x", "dead_ms": at_ms, "event": event}))


def only(*records: ConsumerRecord) -> DeadLetter:
    (letter,) = folded(records).values()
    return letter


def test_what_is_done_with_a_letter_closes_it() -> None:
    assert only(death(1)).state == "open"
    closed = only(death(1), record(mark_of(only(death(1)), "dropped", 2)))
    assert (closed.state, closed.event) == ("dropped", b'{"id":"e","type":"custom.x"}')


def test_a_run_that_died_again_before_its_replay_was_noted_is_open() -> None:
    noted = record(mark_of(only(death(1)), "replayed", 3))
    assert only(death(1), death(2), noted).state == "open"
    assert only(death(1), noted, death(2)).state == "open"
    again = record(mark_of(only(death(1), death(2), noted), "replayed", 4))
    assert only(death(1), death(2), noted, again).state == "replayed"


@pytest.mark.parametrize("state", ["replayed", "dropped"])
def test_a_note_that_names_no_death_is_of_any(state: str) -> None:
    noted = record(encode({"dead_letter": "run_1", "state": state}))
    assert only(death(1), noted).state == state
