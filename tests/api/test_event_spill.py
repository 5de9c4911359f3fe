from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from api.call_journal import CallJournal
from api.errors import EventsUnavailableError
from api.event_spill import EventSpill, SpillError
from api.read_event import TopicEvent
from events.cluster import Cluster
from events.event import OutgoingEvent
from tests.port_base import free_ports

pytestmark = pytest.mark.anyio


def event(number: int, size: int = 10) -> TopicEvent:
    headers = (("rowcast-chain", b"\x00\xff"),)
    made = OutgoingEvent(f"e{number}", "api.x", b'{"key":1}', b"\n" * size, headers)
    return "topic", made


def opened(file: Path, bytes_max: int = 100_000) -> tuple[EventSpill, list[TopicEvent]]:
    spill = EventSpill(file, bytes_max)
    return spill, spill.open()


async def test_what_is_kept_is_read_back_in_its_order(tmp_path: Path) -> None:
    spill, found = opened(tmp_path / "unsent" / "api.events")
    assert found == []
    with pytest.raises(SpillError, match="another process uses it"):
        opened(tmp_path / "unsent" / "api.events")
    kept = [event(number) for number in range(40)]
    await asyncio.gather(*(spill.keep([one]) for one in kept[:30]))
    await spill.keep(kept[30:])
    spill.close()
    spill, found = opened(tmp_path / "unsent" / "api.events")
    assert found == kept
    await spill.clear(lambda: False)
    assert not spill.is_empty
    await spill.clear(lambda: True)
    await spill.keep([event(99)])
    spill.close()
    assert opened(tmp_path / "unsent" / "api.events")[1] == [event(99)]


async def test_a_cut_line_is_dropped_and_a_damaged_one_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "api.events"
    spill, _ = opened(file)
    for number in range(3):
        await spill.keep([event(number)])
    spill.close()
    first, second, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + b"x" + second[1:] + third + first[:-1])
    spill, found = opened(file)
    assert [one.id for _, one in found] == ["e0", "e2"]
    assert file.with_suffix(".damaged").read_bytes() == b"x" + second[1:]
    await spill.keep([event(3)])
    spill.close()
    assert [one.id for _, one in opened(file)[1]] == ["e0", "e2", "e3"]


async def test_where_there_is_no_room_nothing_is_kept_of_what_is_refused(tmp_path: Path) -> None:
    spill, _ = opened(tmp_path / "a.events", 1_000)
    await spill.keep([event(0, 300)])
    with pytest.raises(SpillError, match=r"is full.*http.spill_mb"):
        await spill.keep([event(1, 600)])
    await spill.keep([event(2, 600)], beyond=True)
    assert not spill.has_room
    spill.close()
    assert [one.id for _, one in opened(tmp_path / "a.events")[1]] == ["e0", "e2"]


async def test_a_disk_that_takes_no_more_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill, _ = opened(tmp_path / "a.events")
    await spill.keep([event(0)])
    write = os.write

    def short_write(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:100])

    monkeypatch.setattr(os, "write", short_write)
    with pytest.raises(SpillError, match="No space left"):
        await spill.keep([event(1)])
    monkeypatch.undo()
    await spill.keep([event(2)])
    spill.close()
    assert [one.id for _, one in opened(tmp_path / "a.events")[1]] == ["e0", "e2"]


async def test_writes_are_refused_once_the_spill_is_full_and_what_is_done_is_kept(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    spill = EventSpill(tmp_path / "api.events", 2_000)
    journal = CallJournal(
        Cluster(f"127.0.0.1:{port}"), "api", durable_s=0.2, spill=spill, spills_writes=True
    )
    await journal.start()
    accepted, refusal = 0, ""
    while not refusal:
        try:
            journal.check_write()
            await journal.record(event(accepted, 300)[1], event(100 + accepted)[1])
            accepted += 1
        except EventsUnavailableError as error:
            refusal = str(error.details)
    assert "full" in refusal
    assert 2 <= accepted <= 4
    with pytest.raises(EventsUnavailableError):
        journal.check_kafka()
    journal.check_read()
    journal.note(event(50)[1])
    await journal.record_done(event(51)[1])
    await journal.close()
    left = [one.id for _, one in opened(tmp_path / "api.events")[1]]
    assert left[:accepted] == [f"e{number}" for number in range(accepted)]
    assert set(left[accepted:]) == {f"e{100 + accepted}", "e50", "e51"}
    assert f"e{accepted}" not in left
