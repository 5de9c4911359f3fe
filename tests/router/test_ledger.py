from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from router.ledger import METADATA_LIMIT, WINDOW_OFFSETS, PartitionLedger

EVENTS = st.lists(st.integers(0, 4), min_size=1, max_size=40)
"""How many listeners each event is for."""


def listeners(count: int) -> list[str]:
    return [f"listener-{number}" for number in range(count)]


@settings(max_examples=300)
@given(EVENTS, st.integers(0, 2**32), st.sets(st.integers(0, 200), max_size=6))
def test_each_listener_is_run_once_for_each_event_whatever_the_order_and_the_kills(
    events: list[int], seed: int, kills: set[int]
) -> None:
    """A kill loses all that was not committed; every commit here is one that Kafka took."""
    order = random.Random(seed)
    runs: Counter[tuple[int, str]] = Counter()
    ledger = PartitionLedger(0)
    offset, metadata = 0, ""
    waiting: list[tuple[int, str]] = []
    feed = 0
    step = 0
    while feed < len(events) or waiting:
        step += 1
        if step in kills:
            ledger = PartitionLedger(offset, metadata)
            waiting = []
            feed = offset
        elif feed < len(events) and order.random() < 0.6:
            assert ledger.has_room(feed, events[feed])
            left = ledger.open_event(feed, listeners(events[feed]))
            waiting += [(feed, name) for name in left]
            feed += 1
        elif waiting:
            done = waiting.pop(order.randrange(len(waiting)))
            runs[done] += 1
            ledger.finish(*done)
            offset, metadata = ledger.commit_point()
            assert len(metadata) <= METADATA_LIMIT
    expected = Counter(
        (number, name) for number, count in enumerate(events) for name in listeners(count)
    )
    assert runs == expected
    assert ledger.watermark == len(events)


def test_what_is_not_committed_before_a_kill_is_run_again() -> None:
    ledger = PartitionLedger(10)
    assert ledger.open_event(10, ["a", "b"]) == ["a", "b"]
    before = ledger.commit_point()
    ledger.finish(10, "a")
    assert PartitionLedger(*before).open_event(10, ["a", "b"]) == ["a", "b"]
    assert PartitionLedger(*ledger.commit_point()).open_event(10, ["a", "b"]) == ["b"]


def test_a_listener_added_since_is_run_for_an_event_that_others_finished() -> None:
    ledger = PartitionLedger(0)
    ledger.open_event(0, ["a", "b"])
    ledger.finish(0, "a")
    restarted = PartitionLedger(*ledger.commit_point())
    assert restarted.open_event(0, ["a", "b", "c"]) == ["b", "c"]


def test_dispatch_runs_ahead_of_the_watermark_by_no_more_than_the_window() -> None:
    ledger = PartitionLedger(0)
    ledger.open_event(0, ["slow"])
    offset = 1
    while ledger.has_room(offset, 1):
        ledger.open_event(offset, ["quick"])
        ledger.finish(offset, "quick")
        offset += 1
    assert offset == WINDOW_OFFSETS
    watermark, metadata = ledger.commit_point()
    assert watermark == 0
    assert len(metadata) <= METADATA_LIMIT
    restarted = PartitionLedger(watermark, metadata)
    assert restarted.open_event(0, ["slow"]) == ["slow"]
    assert not any(restarted.open_event(number, ["quick"]) for number in range(1, offset))


def test_partly_finished_events_fit_the_metadata_at_the_worst() -> None:
    ledger = PartitionLedger(0)
    offset = 0
    while ledger.has_room(offset, 3):
        ledger.open_event(offset, listeners(3))
        ledger.finish(offset, "listener-0")
        ledger.finish(offset, "listener-2")
        offset += 1
    watermark, metadata = ledger.commit_point()
    assert offset > 40
    assert len(metadata) <= METADATA_LIMIT
    restarted = PartitionLedger(watermark, metadata)
    assert all(restarted.open_event(n, listeners(3)) == ["listener-1"] for n in range(offset))


def test_metadata_that_somebody_else_wrote_skips_nothing() -> None:
    for metadata in ("hello", "{}", '{"f":1,"p":[]}', '{"p":{"x":1}}'):
        assert PartitionLedger(5, metadata).open_event(5, ["a"]) == ["a"]


def test_offsets_that_are_never_seen_hold_nothing_up() -> None:
    ledger = PartitionLedger(0)
    ledger.open_event(3, ["a"])
    ledger.open_event(9, ["a"])
    ledger.finish(9, "a")
    assert ledger.commit_point()[0] == 3
    ledger.finish(3, "a")
    assert ledger.commit_point() == (10, "")
