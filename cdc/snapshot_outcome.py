"""The event that tells how the loading of a table ended. Pure."""

from __future__ import annotations

from cdc.snapshot_chunk import Note
from cdc.snapshot_state import TableSnapshot
from events.event import make_event


def outcome_note(topic: str, source: str, state: TableSnapshot) -> Note:
    """`system.snapshot_finished` or `system.snapshot_failed`, for the topic of events."""
    finished = state.state == "finished"
    event = make_event(
        event_id=f"{source}/{state.snapshot}/{state.schema}.{state.table}"
        f"/{state.state}{'' if finished else state.updated_ms}",
        event_type="system.snapshot_finished" if finished else "system.snapshot_failed",
        data={
            "source": source,
            "schema": state.schema,
            "table": state.table,
            "reason": state.reason,
            "rows": state.rows,
            "error": state.error or None,
        },
        ts_ms=state.updated_ms,
        key=source,
    )
    return Note(topic, event.key, event.value)
