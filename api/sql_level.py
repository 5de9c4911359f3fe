"""One table's part of a statement that reads: columns, what is joined to it, and its rows. Pure.

Where an aggregate is asked for, the rows are grouped by all else that is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from api.catalogue import CatalogueTable
from api.query_tree import Embed
from api.relationship import Relationship
from api.statement import quote_label


@dataclass(frozen=True, slots=True)
class Item:
    """One value of a row: its SQL and its key in the answer, which is None for all columns."""

    sql: str
    label: str | None
    aggregates: bool = False

    @property
    def written(self) -> str:
        """As it stands in a select."""
        return self.sql if self.label is None else f"{self.sql} as {quote_label(self.label)}"


@dataclass(slots=True)
class Joined:
    """An embedded relation: how it is joined, and by which SQL it is absent or there.

    `names` are those of its columns, which are its parent's where it is spread. `keys` are columns
    of it that hold keys, its own and those of what it embeds, each with its table.
    """

    embed: Embed
    relation: Relationship
    sql: str
    value: str
    present: str
    needed: bool
    alias: str
    names: tuple[str, ...]
    keys: tuple[tuple[str, CatalogueTable], ...]


@dataclass(slots=True)
class Level:
    """One table's part of a statement."""

    alias: str
    items: list[Item] = field(default_factory=list[Item])
    joins: list[Joined] = field(default_factory=list[Joined])
    where: list[str] = field(default_factory=list[str])
    order: list[str] = field(default_factory=list[str])
    bounds: str = ""

    @property
    def aggregates(self) -> bool:
        """Whether its rows are grouped, so that none of them is in the answer itself."""
        return any(item.aggregates for item in self.items)

    def sources(self, source: str, *, all_joins: bool = True, body: str = "") -> str:
        """What stands from `from` to the end of `where`; `body` is joined last."""
        joins = "".join(one.sql for one in self.joins if all_joins or one.needed)
        where = f" where {' and '.join(f'({one})' for one in self.where)}" if self.where else ""
        return f" from {source} {self.alias}{joins}{body}{where}"

    def keys_passed(self) -> list[tuple[str, CatalogueTable]]:
        """The columns with the keys of embedded rows, and whose they are."""
        return [key for one in self.joins for key in one.keys]

    def keys_given(self) -> str:
        """Those columns as they stand in a select of `with_body`."""
        if self.aggregates:
            return "".join(f", g.{name}" for name, _ in self.keys_passed())
        return "".join(f", {one.alias}.{name}" for one in self.joins for name, _ in one.keys)

    def ending(self) -> str:
        """Order and bounds."""
        order = f" order by {', '.join(self.order)}" if self.order else ""
        return f"{order}{self.bounds}"

    def with_body(self, source: str) -> str:
        """The rows, each made one value `rowcast_row`; one without columns is an empty object."""
        if self.aggregates:
            return self._grouped(source)
        items = ", ".join(item.written for item in self.items)
        body = f" cross join lateral (select {items}) rowcast_row"
        return f"{self.sources(source, body=body)}{self.ending()}"

    def _grouped(self, source: str) -> str:
        values = [f"{item.sql} as c{place}" for place, item in enumerate(self.items)]
        values += [
            f"pg_catalog.string_agg({one.alias}.{name}, $$,$$) as {name}"
            for one in self.joins
            for name, _ in one.keys
        ]
        # By their places: an expression with a parameter in it need not be seen as the same one.
        by = [str(place + 1) for place, item in enumerate(self.items) if not item.aggregates]
        grouped = f" group by {', '.join(by)}" if by else ""
        shown = ", ".join(
            Item(f"g.c{place}", item.label).written for place, item in enumerate(self.items)
        )
        return (
            f" from (select {', '.join(values)}{self.sources(source)}{grouped}{self.ending()}) g "
            f"cross join lateral (select {shown}) rowcast_row"
        )
