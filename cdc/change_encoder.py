"""What the assembly and snapshots ask of the encoder of one relation, whatever its format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from cdc.pgoutput import Relation, Row
from cdc.row_encoder import Change, SnapshotBytes, TransactionBytes
from events.json_codec import JsonObject

if TYPE_CHECKING:
    from cdc.row_path import Table

Format: TypeAlias = Literal["json", "connect-json"]
"""How changes stand on Kafka: the plain envelope, or Connect's JSON with the schema inside."""


class ChangeEncoder(Protocol):
    """Records of one relation's changes; RowEncoder says what each of them is."""

    topic: str
    relation: Relation
    look: JsonObject

    @property
    def is_keyed(self) -> bool:
        """Whether records have a key."""
        ...

    def table(self) -> Table | None:
        """The same encoder for the compiled way of rows, None for a format without one."""
        ...

    def created(
        self, row: Row, ordinal: bytes, transaction: TransactionBytes, end: bytes
    ) -> Change:
        """An insert."""
        ...

    def read(
        self, row: Row, snapshot: SnapshotBytes, place: bytes | None = None
    ) -> tuple[bytes, bytes]:
        """A row read by a snapshot: its identity and its value."""
        ...

    def read_lines(
        self, lines: list[bytes], snapshot: SnapshotBytes, rows: list[tuple[bytes, bytes]]
    ) -> None:
        """COPY's lines of a table with a key, as `read` makes them."""
        ...

    def row_json(self, row: Row) -> bytes:
        """What identifies a row in a table without a key."""
        ...

    def updated(
        self,
        old: Row | None,
        new: Row,
        ordinal: int,
        transaction: TransactionBytes,
        end: bytes,
        *,
        old_is_full: bool,
    ) -> tuple[Change, ...]:
        """An update: one change, or two where the key is another one."""
        ...

    def deleted(
        self,
        old: Row,
        ordinal: int,
        transaction: TransactionBytes,
        end: bytes,
        *,
        old_is_full: bool,
    ) -> Change:
        """A delete."""
        ...

    def truncated(self, ordinal: int, transaction: TransactionBytes, end: bytes) -> Change:
        """The table was emptied."""
        ...
