"""Rows read by a snapshot, on their way to their place in the stream. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdc.change_group import ChangeGroup
from cdc.snapshot_window import SnapshotWindow, VisibleTransactions

WATERMARK_PREFIX = "rowcast.snapshot"
"""Prefix of the logical messages that are high watermarks; their content is a chunk's token."""

_READ, _LAST = b'"snapshot":"true"', b'"snapshot":"last"'


@dataclass(frozen=True, slots=True)
class Note:
    """A record that is published together with a chunk, or by itself."""

    topic: str
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Rows of one table as one snapshot of the database has them.

    `rows` are identities and envelopes; the identity is the record key where the table is
    `keyed`, else the row's JSON. `notes` hold the checkpoint. `on_placed` is called at the
    watermark: with True where the rows and notes are in the group, with False where the chunk
    must be read again.
    """

    token: bytes
    topic: str
    visible: VisibleTransactions
    rows: Sequence[tuple[bytes, bytes]]
    keyed: bool
    is_last: bool
    timestamp_ms: int
    notes: Sequence[Note]
    on_placed: Callable[[bool], None]

    def place(self, group: ChangeGroup, window: SnapshotWindow) -> None:
        """Add to a group what the stream has not overtaken."""
        stale = window.stale_keys(self.topic, self.visible)
        if stale is None:
            self.on_placed(False)
            return
        rows = self.rows
        if stale:
            rows = [row for row in rows if row[0] not in stale]
        if self.is_last and rows:
            identity, value = rows[-1]
            rows = [*rows[:-1], (identity, _marked_last(value))]
        keyed = rows if self.keyed else ((None, value) for _, value in rows)
        group.add_rows(self.topic, keyed, self.timestamp_ms)
        for note in self.notes:
            group.add_note(note.topic, note.key, note.value, self.timestamp_ms)
        window.forget(self.visible)
        self.on_placed(True)


def _marked_last(value: bytes) -> bytes:
    # The envelope's own field stands behind the row, which may hold the same text.
    head, _, tail = value.rpartition(_READ)
    return head + _LAST + tail
