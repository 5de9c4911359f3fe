"""What `rowcast status` says of PostgreSQL's slots: asked of the servers, whatever else runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from cdc.errors import CaptureConfigError
from cdc.postgres_slot_watch import look_at_slot
from rowcast.installation import Installation

_LIMIT_S = 3.0


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """A source's slot; `state` is ok, over_budget, invalidated or missing, sizes in bytes."""

    slot: str
    state: str
    retained_bytes: int
    budget_bytes: int
    wal_status: str
    safe_wal_size_bytes: int | None
    invalidation_reason: str | None
    summary: str
    mend: str = ""


Slots: TypeAlias = "dict[str, SlotStatus]"
"""By source, those whose server answers."""


async def read_slots(installation: Installation) -> Slots:
    """The slots of all PostgreSQL sources."""
    sources = installation.configuration.sources
    names = [name for name, source in sources.items() if source.kind == "postgres"]
    found = await asyncio.gather(*(_read(installation, name) for name in names))
    return {name: slot for name, slot in zip(names, found, strict=True) if slot is not None}


def slot_line(source: str, slot: SlotStatus) -> str:
    """A line of the status, with the mend where there is something to mend."""
    mend = f"; {slot.mend}" if slot.mend else ""
    return f"{source:<16} {slot.state.replace('_', ' '):<11} {slot.summary}{mend}"


async def _read(installation: Installation, name: str) -> SlotStatus | None:
    source = installation.postgres_source(name)
    try:
        async with asyncio.timeout(_LIMIT_S):
            seen = await look_at_slot(source)
    except (CaptureConfigError, psycopg.Error, TimeoutError):
        return None
    if seen is None:
        return SlotStatus(
            source.slot, "missing", 0, 0, "", None, None, f"the slot {source.slot} is not there"
        )
    state, mend = "ok", ""
    if seen.invalidation is not None:
        state, mend = "invalidated", f"on_gap in {source.setting} says how capture goes on"
    elif seen.is_over:
        state, mend = "over_budget", seen.mend()
    return SlotStatus(
        slot=source.slot,
        state=state,
        retained_bytes=seen.retained_bytes,
        budget_bytes=seen.budget_bytes,
        wal_status=seen.wal_status,
        safe_wal_size_bytes=seen.safe_wal_size_bytes,
        invalidation_reason=seen.invalidation,
        summary=seen.summary,
        mend=mend,
    )
