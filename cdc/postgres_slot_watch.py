"""The watch over the log that a source's slot keeps: a warning before it is too much.

Looks once before anything asks for Kafka, so that the log says it while Kafka is away too, and
from then on as long as capture runs. Each crossing of the budget is told once: that it was told
stands on Kafka beside the event, and is taken away once the slot is well under its budget again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import LiteralString, cast

from cdc.postgres_source import Connection, PostgresSource, connect
from cdc.snapshot_chunk import Note
from cdc.wal_retention import WalRetention, budget_bytes, wal_budget_key
from events.cluster import Cluster
from events.json_codec import JsonObject, JsonValue
from events.lsn import Lsn

_log = logging.getLogger(__name__)

# As JSON, since the view's columns differ between server versions 14 and 18.
_SLOT: LiteralString = """
    select to_jsonb(s) || jsonb_build_object(
        'retained', pg_catalog.pg_wal_lsn_diff(head.lsn, s.restart_lsn)::bigint,
        'behind', pg_catalog.pg_wal_lsn_diff(head.lsn, s.confirmed_flush_lsn)::bigint,
        'limit_mb', (select setting::bigint from pg_catalog.pg_settings
                     where name = 'max_slot_wal_keep_size'))
    from pg_catalog.pg_replication_slots s, lateral (select case
        when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn()
        else pg_catalog.pg_current_wal_lsn() end) head(lsn)
    where slot_name = %s
"""
# The oldest transaction of the server that has written something, prepared ones included.
_HOLDER: LiteralString = """
    select mend from (
        select format('select pg_terminate_backend(%%s) ends that of %%s, open for %%s s', pid,
                   usename, extract(epoch from now() - xact_start)::int), age(backend_xid)
        from pg_catalog.pg_stat_activity where backend_xid is not null
        union all
        select format('commit prepared %%L or rollback prepared %%L, in %%I', gid, gid, database),
            age(transaction)
        from pg_catalog.pg_prepared_xacts
    ) held(mend, age) order by age desc limit 1
"""
_LOOK_S = 10.0


class SlotWatch:
    """The watch over one source's slot, through the capture's own connection."""

    def __init__(self, source: PostgresSource, cluster: Cluster, connection: Connection) -> None:
        self._source = source
        self._topics = cluster.topics
        self._connection = connection
        self._is_logged = False
        self._mend = ""

    async def look(self) -> WalRetention | None:
        """Look once, and log a crossing; None where there is no slot that keeps log."""
        seen = await read_retention(self._connection, self._source)
        if seen is None or seen.invalidation is not None:
            return None
        if seen.is_over and not self._is_logged:
            self._mend = seen.mend(await self._holder())
            _log.warning("%s: %s; %s", self._source.name, seen.summary, self._mend)
            self._is_logged = True
        elif seen.is_well_under and self._is_logged:
            _log.info("%s: under its budget again: %s", self._source.name, seen.summary)
            self._is_logged = False
        return seen

    async def run(self, last: bytes | None, publish: Callable[[Sequence[Note]], None]) -> None:
        """Look again and again; `last` is the record of the last crossing that was told.

        Ends only by what it raises.
        """
        is_told = last is not None
        key = wal_budget_key(self._source.name)
        while True:
            seen = await self.look()
            if seen is not None and seen.is_over and not is_told:
                event = seen.event(self._source.name, self._mend, time.time_ns() // 1_000_000)
                mark = Note(self._topics.progress, key, event.value)
                publish([Note(self._topics.events, event.key, event.value), mark])
                is_told = True
            elif seen is not None and seen.is_well_under and is_told:
                publish([Note(self._topics.progress, key, None)])
                is_told = False
            await asyncio.sleep(min(self._source.heartbeat_s, _LOOK_S))

    async def _holder(self) -> str | None:
        row = await (await self._connection.execute(_HOLDER, ())).fetchone()
        return str(row[0]) if row is not None and row[0] is not None else None


async def read_retention(connection: Connection, source: PostgresSource) -> WalRetention | None:
    """What a source's slot keeps now, None where there is no slot."""
    row = await (await connection.execute(_SLOT, (source.slot,))).fetchone()
    if row is None:
        return None
    slot = cast("JsonObject", row[0])
    reason = slot.get("invalidation_reason")
    if reason is None and slot.get("wal_status") == "lost":
        reason = "wal_removed"
    pid, left = slot.get("active_pid"), slot.get("safe_wal_size")
    return WalRetention(
        slot=source.slot,
        restart=Lsn.parse(str(slot.get("restart_lsn") or "0/0")),
        retained_bytes=_count(slot.get("retained")),
        behind_bytes=_count(slot.get("behind")),
        budget_bytes=budget_bytes(source.wal_budget_mb, _count(slot.get("limit_mb"))),
        wal_status=str(slot.get("wal_status")),
        safe_wal_size_bytes=left if isinstance(left, int) else None,
        invalidation=str(reason) if reason is not None else None,
        active_pid=pid if isinstance(pid, int) else None,
    )


async def look_at_slot(source: PostgresSource) -> WalRetention | None:
    """As read_retention, over a connection of its own; raises as `connect` and psycopg do."""
    connection = await connect(source)
    try:
        return await read_retention(connection, source)
    finally:
        await connection.close()


def _count(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0
