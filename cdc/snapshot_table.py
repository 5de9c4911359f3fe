"""A table as a snapshot reads it, and the SQL that reads one chunk of it.

Pure. Chunks go by the key, in the order of the index that has it, from the last key on; a table
without a key goes by ranges of blocks. The columns and the row filter are those of the
publication, so that a row read looks as the same row changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc.pgoutput import Relation

_START = "(0,0)"


@dataclass(frozen=True, slots=True)
class Member:
    """A relation with blocks of its own: the table, or a leaf of a partitioned one."""

    oid: int
    schema: str
    name: str
    filenode: int
    blocks: int


@dataclass(frozen=True, slots=True)
class SnapshotTable:
    """`order` are the key columns in their index's order, empty for a table read by blocks.

    `row_filter` is the publication's, as SQL; `members` are given for a table read by blocks.
    Equal shapes are read by the same SQL and encoded alike.
    """

    relation: Relation
    order: tuple[str, ...]
    row_filter: str
    is_partitioned: bool
    members: tuple[Member, ...]
    estimated_rows: int | None

    @property
    def shape(self) -> object:
        """What must not change while a table is read."""
        files = tuple((member.oid, member.filenode) for member in self.members)
        return self.relation, self.order, self.row_filter, files

    def next_place(self, position: tuple[str, ...]) -> tuple[Member, str] | None:
        """The relation to go on in and the place in it behind which to go on; None at the end.

        Only for a table read by blocks; `position` as in TableSnapshot.
        """
        oid, after = (int(position[0]), position[2]) if position else (0, _START)
        for member in self.members:
            place = after if member.oid == oid else _START
            if member.oid >= oid and block_of(place) < member.blocks:
                return member, place
        return None

    def is_read_as(self, key: tuple[str, ...], position: tuple[str, ...]) -> bool:
        """Whether a snapshot that was begun with a key can go on from a checkpoint."""
        if key != self.order:
            return False
        if self.order or not position:
            return True
        files = {str(member.oid): str(member.filenode) for member in self.members}
        # A rewritten table has its rows elsewhere; a partition that is gone has none.
        return files.get(position[0], position[1]) == position[1]

    def by_key(self, where: str, after: Sequence[str], limit: int) -> str:
        """The query of the next rows after a key, in its order."""
        conditions = [f"({','.join(map(quote_name, self.order))}) > ({_literals(after)})"]
        order = ", ".join(map(quote_name, self.order))
        return (
            f"select {self._columns()} from {self._name()}"  # noqa: S608 - names are quoted
            f"{self._where(where, conditions if after else [])} order by {order} limit {limit}"
        )

    def all_rows(self) -> str:
        """The query of all rows, in no order."""
        return f"select {self._columns()} from {self._name()}{self._where('', [])}"  # noqa: S608 - names are quoted

    def by_blocks(self, member: Member, where: str, after: str, end: int) -> str:
        """The query of the rows behind a place (a tid) and before a block, in their order.

        Two columns stand before the table's: the row's place and the transaction that wrote it.
        """
        name = f"only {quote_name(member.schema)}.{quote_name(member.name)}"
        blocks = [f"ctid > {_literals([after])}", f"ctid < '({end},0)'"]
        columns = f"ctid, xmin, {self._columns()}"
        return f"select {columns} from {name}{self._where(where, blocks)}"  # noqa: S608 - names are quoted

    def _columns(self) -> str:
        return ", ".join(quote_name(column.name) for column in self.relation.columns)

    def _name(self) -> str:
        name = f"{quote_name(self.relation.schema)}.{quote_name(self.relation.name)}"
        # The children of plain inheritance are tables of their own, partitions are not.
        return name if self.is_partitioned else f"only {name}"

    def _where(self, where: str, conditions: list[str]) -> str:
        # A line of its own, since a user's condition may end in a comment.
        given = [f"({part}\n)" for part in (self.row_filter, where) if part]
        return f" where {' and '.join(conditions + given)}" if conditions or given else ""


def block_of(place: str) -> int:
    """The block of a tid, `(block,offset)`."""
    return int(place[1:].partition(",")[0])


def quote_name(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literals(values: Sequence[str]) -> str:
    # The session has standard_conforming_strings on; the columns give the literals their types.
    return ",".join("'" + value.replace("'", "''") + "'" for value in values)
