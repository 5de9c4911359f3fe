"""One database's profiler on one mongod, held to what is wanted and read entry by entry.

It is set again wherever it is found otherwise, since a mongod that was restarted profiles nothing;
what was read between is then a gap, and so are entries that the capped collection dropped unread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import msgspec

from cdc.change_group import ChangeGroup
from cdc.mongo_audit import AuditStore, Before, MongoAudit
from cdc.mongo_profiler import MongoProfiler
from cdc.mongo_source import MongoSource
from cdc.mongo_statement import StatementForm
from cdc.profile_entry import ProfileEntry, entry_position, read_entry
from cdc.profile_filter import Profiling
from cdc.profile_progress import ProfileGap, ProfilePlace
from cdc.profile_read import profile_read_record
from events.call_mark import is_marked

_log = logging.getLogger(__name__)

Publish: TypeAlias = Callable[[ChangeGroup, ProfilePlace], Awaitable[None]]
_Found: TypeAlias = tuple[int, int, ProfileEntry | None]
Ask: TypeAlias = Callable[[], Awaitable[MongoAudit | None]]

_HELD_EVERY_S: Final = 1.0
# A batch of so few is not cut short by its size, so there was nothing behind it.
_FEW: Final = 100
# The server answers as soon as there is one entry; a Kafka transaction for each would cost more
# than the read it tells of.
_GATHER_S: Final = 0.1

_RESTARTED = "mongod was started again, and profiled nothing until capture had told it to"
_REMADE = "the profiler's collection was dropped and made again"
_CHANGED = "somebody had set the profiler otherwise"
_ROLLED_OVER = (
    "the profiler's collection is too small for what was read while capture did not look "
    "(profile_mb in rowcast.toml)"
)


class ProfileTail:
    """One run over one profiler, from a place on; None where nothing of it is told yet."""

    def __init__(  # noqa: PLR0913 - what it reads, for whom, and how it tells
        self,
        source: MongoSource,
        member: str,
        database: str,
        profiler: MongoProfiler,
        store: AuditStore,
        place: ProfilePlace | None,
        *,
        ask: Ask,
        publish: Publish,
        events_topic: str,
    ) -> None:
        self._source = source
        self._member = member
        self._database = database
        self._profiler = profiler
        self._store = store
        self._place = None if place is None or place.ended else place
        self._ask = ask
        self._publish = publish
        self._events_topic = events_topic
        self._audit = MongoAudit("")
        # What was audited when capture last looked is told to the end, though it be no more.
        known = self._place.collections if self._place is not None else ()
        self._since_ms = dict.fromkeys(known, 0)
        self._wanted: Profiling | None = None
        self._held_at_s = 0.0
        self._stored_at_s = 0.0
        self._first = True

    async def run(self) -> None:
        """Read until nothing of the database is audited any more; raises what pymongo raises."""
        while True:
            if time.monotonic() - self._held_at_s > _HELD_EVERY_S:
                await self._hold()
            if self._place is None:
                return  # never begun, and not asked for any more
            asked = self._audit
            entries = await self._profiler.entries()
            if entries is None:
                self._first = True
                entries = await self._profiler.entries() or []
            found = [(*entry_position(document), read_entry(document)) for document in entries]
            if any(self._is_unknown(entry) for _, _, entry in found):
                # Perhaps of a collection that is audited since we last asked.
                self._learn(await self._ask())
            group = self._read(found)
            is_news = len(entries) < _FEW and self._reached_end(asked)
            if group or is_news:
                await self._store_place(group)
            if self._place.ended:
                return
            if group and len(entries) < _FEW:
                await asyncio.sleep(_GATHER_S)

    def _reached_end(self, asked: MongoAudit) -> bool:
        """All there was has been read; whether that is to be stored."""
        assert self._place is not None  # noqa: S101 - it is set once the profiler is held
        names = tuple(sorted(asked.names(self._database)))
        is_new = asked.version != self._place.version
        self._place = msgspec.structs.replace(
            self._place,
            seen_ms=_now_ms(),
            collections=names,
            version=asked.version,
            ended=not names,
        )
        return is_new or time.monotonic() - self._stored_at_s > self._source.heartbeat_s

    async def _hold(self) -> None:
        """See that the profiler is set as it must be; what else it may have missed is a gap."""
        self._held_at_s = time.monotonic()
        audit = await self._ask()
        names = self._learn(audit)
        if audit is None or not names:
            return
        process = await self._profiler.process()
        before = await self._profiler.state()
        noted = audit.before.get((self._member, self._database))
        if noted is None:
            noted = Before(before.profiling, await self._profiler.collection_id() is None)
            await self._store.note(self._member, self._database, noted)
        views = await self._profiler.views_on(names)
        wanted = noted.profiling.with_reads(self._database, names | views)
        place = self._place
        changed = place is None or before.digest != place.setting
        if not changed and wanted == self._wanted and place and place.process == process:
            return
        if changed:
            # Perhaps `rowcast audit` has set it just now, and asks for something else.
            fresh = await self._ask()
            if fresh is None or fresh.version != audit.version:
                self._held_at_s = 0.0
                return
        after = await self._profiler.set(wanted)
        self._wanted = wanted
        collection = await self._profiler.collection_id() or ""
        untouched = before.digest == after.digest or not changed
        await self._go_on(process, collection, after.digest, untouched=untouched)

    async def _go_on(self, process: str, collection: str, setting: str, *, untouched: bool) -> None:
        """The place from here on, and the gap before it where there is one."""
        place, reason = self._place, None
        if place is None:
            place = ProfilePlace(process, collection, seen_ms=_now_ms())
        elif place.collection != collection:
            reason = _REMADE
            place = msgspec.structs.replace(
                ProfilePlace(process, collection),
                seen_ms=place.seen_ms,
                collections=place.collections,
            )
        elif place.process != process:
            reason = _RESTARTED
            place = place.restarted(process)
        elif not untouched:
            reason = _CHANGED
        if place.process != process or reason in (_REMADE, _RESTARTED) or self._place is None:
            await self._profiler.rewind()
            self._first = True
        self._place = msgspec.structs.replace(place, setting=setting)
        if reason is not None:
            group = ChangeGroup()
            self._tell(group, ProfileGap(*self._here, reason, place.seen_ms, _now_ms()))
            await self._store_place(group)

    @property
    def _here(self) -> tuple[str, str, str]:
        return self._source.name, self._member, self._database

    def _learn(self, audit: MongoAudit | None) -> frozenset[str]:
        """The collections that are audited now.

        Entries of what is not any more are told up to the end that there is now.
        """
        self._audit = audit or MongoAudit("")
        names = self._audit.names(self._database)
        self._since_ms |= {name: self._audit.since_ms[f"{self._database}.{name}"] for name in names}
        return names

    def _is_unknown(self, entry: ProfileEntry | None) -> bool:
        return entry is not None and not entry.collections <= self._since_ms.keys()

    def _read(self, entries: list[_Found]) -> ChangeGroup:
        group, place = ChangeGroup(), self._place
        assert place is not None  # noqa: S101 - it is set once the profiler is held
        now_ms = _now_ms()
        for record, at_ms, entry in entries:
            if self._first:
                self._first = False
                missing = place.missing_before(record)
                if missing:
                    since_ms = place.last_ms or place.seen_ms
                    gap = ProfileGap(*self._here, _ROLLED_OVER, since_ms, at_ms, missing)
                    self._tell(group, gap)
            if place.is_told(record, at_ms):
                continue
            place = msgspec.structs.replace(place, record=record, last_ms=max(place.last_ms, at_ms))
            if entry is not None:
                self._add(group, place.process, entry, now_ms)
        self._place = place
        return group

    def _add(self, group: ChangeGroup, process: str, entry: ProfileEntry, now_ms: int) -> None:
        if is_marked(entry.comment, self._source.mark_secret, entry.at_ms):
            return
        for collection in sorted(entry.collections):
            since_ms = self._since_ms.get(collection)
            if since_ms is None or entry.at_ms < since_ms:
                continue
            record = profile_read_record(
                self._source.name, process, entry, collection, self._form, now_ms
            )
            group.add(*record, (), entry.at_ms)

    @property
    def _form(self) -> StatementForm:
        return self._source.statements

    def _tell(self, group: ChangeGroup, gap: ProfileGap) -> None:
        _log.warning("%s", gap)
        event = gap.event()
        group.add(self._events_topic, event.key, event.value, (), gap.until_ms)

    async def _store_place(self, group: ChangeGroup) -> None:
        assert self._place is not None  # noqa: S101 - it is set once the profiler is held
        await self._publish(group, self._place)
        self._stored_at_s = time.monotonic()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
