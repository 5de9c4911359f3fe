"""Listeners' state as records say, however late one's own come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.run import StateWrite
from router.errors import StateError
from router.state_table import StateKey, StateTable

Log = list[tuple[bytes, bytes | None]]


def read(table: StateTable, log: Log, start: int, end: int) -> None:
    for offset in range(start, end):
        table.read(*log[offset], offset)


def test_what_is_settled_is_seen_at_once_and_gone_where_it_was_dropped() -> None:
    table = StateTable()
    first, second = (StateWrite("a", b"1"),), (StateWrite("a", b"1"), StateWrite("b", None))
    table.settle("t", "l", first)
    table.settle("t", "l", second)
    assert table.of("t", "l") == {"a": b"1"}
    assert table.of("t", "other") == table.of("u", "l") == {}
    table.unsettle("t", "l", first)
    assert table.of("t", "l") == {"a": b"1"}
    table.unsettle("t", "l", second)
    assert table.of("t", "l") == {}


def test_a_view_that_a_run_was_given_does_not_change() -> None:
    table = StateTable()
    table.commit("t", "l", [(StateWrite("a", b"1"), 1)])
    view = table.of("t", "l")
    table.commit("t", "l", [(StateWrite("a", b"2"), 2)])
    assert view == {"a": b"1"}


@pytest.mark.parametrize("key", [b"", b"{}", b"[]", b'{"tenant": 1, "listener": "l", "key": "k"}'])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    with pytest.raises(StateError):
        StateTable().read(key, b"1", 0)


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from("ab"),
            st.one_of(st.none(), st.sampled_from([b"1", b"2"])),
            st.integers(0, 3),
        ),
        max_size=30,
    )
)
def test_own_records_read_back_late_never_undo_newer_ones(
    steps: list[tuple[bool, str, bytes | None, int]],
) -> None:
    """Ours are known as they are committed, those of other routers as they are read."""
    table, log, read_to = StateTable(), Log(), 0
    model: dict[str, bytes] = {}
    for ours, key, value, read_count in steps:
        log.append((StateKey("t", "l", key).encode(), value))
        if ours:
            table.commit("t", "l", [(StateWrite(key, value), len(log) - 1)])
        else:
            read(table, log, read_to, len(log))
            read_to = len(log)
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value
        assert table.of("t", "l") == model
        end = min(len(log), read_to + read_count)
        read(table, log, read_to, end)
        read_to = end
        assert table.of("t", "l") == model
    read(table, log, read_to, len(log))
    again = StateTable()
    read(again, log, 0, len(log))
    assert table.of("t", "l") == again.of("t", "l") == model
