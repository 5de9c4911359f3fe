from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.json_codec import JsonValue
from listener_runtime.errors import FrameError
from listener_runtime.frames import (
    MAX_FRAME_BYTES,
    BatchHead,
    Call,
    Done,
    Emit,
    Log,
    Push,
    RunHead,
    Said,
    Started,
    answer_frame,
    checked_size,
    decode_frame,
    decode_length,
    run_frame,
)

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_frame_error(payload: bytes) -> None:
    with contextlib.suppress(FrameError):
        decode_frame(payload)


@given(
    st.lists(
        st.builds(Call, id=st.integers(0, 99), name=st.text(), args=st.just({}))
        | st.builds(Emit, type=st.text(), data=json_values, key=st.none() | st.text())
        | st.builds(Push, channel=st.text(), data=json_values)
        | st.builds(Log, level=st.just("info"), message=st.text(), fields=st.just({}))
        | st.builds(Done, ok=st.booleans(), result=json_values)
    )
)
def test_messages_read_as_they_were_written(
    messages: list[Call | Emit | Push | Log | Done],
) -> None:
    lines = b"".join(msgspec.json.encode(message) + b"\n" for message in messages)
    said = decode_frame(b"G" + lines)
    assert isinstance(said, Said)
    assert said.messages == messages
    assert said.ending is None


def test_the_end_of_a_run_bears_what_only_the_process_knows() -> None:
    head = b'{"output":"hi","output_lost_bytes":3,"heap_bytes":7}'
    said = decode_frame(b"D" + head + b'\n{"t":"done","ok":true,"result":[1]}\n')
    assert isinstance(said, Said)
    assert said.ending is not None
    assert (said.ending.output, said.ending.output_lost_bytes, said.ending.heap_bytes) == (
        "hi",
        3,
        7,
    )
    assert said.messages == [Done(ok=True, result=[1])]


def test_a_start_tells_the_size_of_memory() -> None:
    assert decode_frame(b'S{"heap_bytes":31457280,"took_ms":1.5}') == Started(31_457_280, {})


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused(length: int) -> None:
    with pytest.raises(FrameError, match="at most"):
        decode_length(length.to_bytes(4, "little"))


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(FrameError):
        decode_frame(b'G{"t":"emit","type":"custom.x","data":' + deep + b"}\n")


def test_runs_are_framed_with_the_length_of_their_events() -> None:
    heads = (RunHead(1, "root", ("a",)), RunHead(2, "other", ()))
    frame = run_frame(
        "pay",
        "é = 1",
        [(heads[0], b'{"n": 1}'), (heads[1], b"{}")],
        memory_mb=256,
        secrets={"KEY": "v"},
        keep=True,
    )
    assert decode_length(frame[:4]) == len(frame) - 4
    head, _, rest = frame[5:].partition(b"\n")
    events = b'[{"n": 1},{}]'
    assert msgspec.json.decode(head, type=BatchHead) == BatchHead(
        "pay", len(events), 256, {"KEY": "v"}, heads, keep=True
    )
    assert rest == events + "é = 1".encode()


@given(json_values)
def test_an_answer_bears_the_value(value: JsonValue) -> None:
    frame = answer_frame(4, value)
    assert frame[4:5] == b"V"
    assert msgspec.json.decode(frame[5:]) == {"id": 4, "value": value}


@given(json_values)
def test_a_size_is_that_of_the_json(value: JsonValue) -> None:
    assert checked_size(value) == len(msgspec.json.encode(value))


def test_what_json_could_not_hold_inside_a_record_is_refused() -> None:
    value: JsonValue = 1
    for _ in range(250):
        value = [value]
    with pytest.raises(ValueError, match=r"[Rr]ecursion"):
        checked_size(value)
    with pytest.raises(ValueError, match="range"):
        checked_size(2**80)
