"""Reading as SQL: one statement that gives the answer's JSON, the number of rows and their keys.

The database builds the JSON, embedded rows by lateral joins, so that nothing of a row is looked
at here. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from psycopg import sql

from api.catalogue import Catalogue, CatalogueTable
from api.errors import ApiError
from api.query_tree import Column, Embed, OrderTerm, Selection
from api.relationship import Relationship, find_relationship
from api.rows_answer import KEYS_COLUMN
from api.sql_condition import ConditionWriter
from api.statement import Parameters, ReadColumns, Statement, quote_label
from events.token import Role

Counting: TypeAlias = Literal["exact", "estimated"] | None
"""Whether all rows that match are counted; an estimate may come from the table's statistics."""

_CAST_ALIASES = {"int": "integer", "float": "double precision", "decimal": "numeric"}


@dataclass(slots=True)
class _Joined:
    """An embedded relation: how it is joined, and by which SQL it is absent or there.

    `keys` are columns of it that hold keys, its own and those of what it embeds, each with its
    table.
    """

    embed: Embed
    relation: Relationship
    sql: str
    value: str
    present: str
    needed: bool
    alias: str
    keys: tuple[tuple[str, CatalogueTable], ...]


@dataclass(slots=True)
class _Level:
    """One table's part of a statement."""

    alias: str
    items: list[str] = field(default_factory=list)
    joins: list[_Joined] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    bounds: str = ""

    def sources(self, source: str, *, all_joins: bool = True, body: str = "") -> str:
        """What stands from `from` to the end of `where`; `body` is joined last."""
        joins = "".join(one.sql for one in self.joins if all_joins or one.needed)
        where = f" where {' and '.join(f'({one})' for one in self.where)}" if self.where else ""
        return f" from {source} {self.alias}{joins}{body}{where}"

    def keys_passed(self) -> list[tuple[str, CatalogueTable]]:
        """The columns with the keys of embedded rows, and whose they are."""
        return [key for one in self.joins for key in one.keys]

    def keys_given(self) -> str:
        """Those columns as they stand in a select."""
        return "".join(f", {one.alias}.{name}" for one in self.joins for name, _ in one.keys)

    def ending(self) -> str:
        """Order and bounds."""
        order = f" order by {', '.join(self.order)}" if self.order else ""
        return f"{order}{self.bounds}"

    def with_body(self, source: str) -> str:
        """The rows, each made one value `rowcast_row`; one without columns is an empty object."""
        body = f" cross join lateral (select {', '.join(self.items)}) rowcast_row"
        return f"{self.sources(source, body=body)}{self.ending()}"


class ReadWriter:
    """Writes statements that read, or that give back what was written.

    `told_as` is the role whose reads are to be told of, None where they are not: then `reads`
    says, once the answer is written, in which of its columns.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        parameters: Parameters,
        rows_max: int,
        *,
        told_as: Role | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._parameters = parameters
        self._rows_max = rows_max
        self._told_as: Role | None = told_as
        self._aliases = 0
        self.reads: tuple[ReadColumns, ...] = ()

    def answer(
        self,
        table: CatalogueTable,
        selection: Selection,
        source: str,
        *,
        keys: bool,
        total: Counting,
    ) -> str:
        """`select rows, body, keys, total, ... from ...`, all as text.

        `source` is where the rows are: the table itself or the name of a CTE. `keys` and `total`
        are null where they are not asked for. What follows is as `reads` says.
        """
        level = self._level(table, selection)
        key = f", {key_sql(table, level.alias)} as k" if keys else ""
        count = "null"
        if total is not None:
            matching = level.sources(source, all_joins=False)
            count = f"(select pg_catalog.count(*){matching})"
            picked = bool(level.where) or any(one.needed for one in level.joins)
            if total == "estimated" and not picked and not table.row_security:
                count = self._estimate(table, count)
            count = f"{count}::text"
        told = self._told(table, level)
        return (
            "select pg_catalog.count(*)::text, coalesce(pg_catalog.json_agg(s.b), '[]')::text, "
            f"{'pg_catalog.string_agg(s.k, $$,$$)' if keys else 'null'}, {count}{told} "
            f"from (select rowcast_row as b{key}{level.keys_given()}{level.with_body(source)}) s"
        )

    def _told(self, table: CatalogueTable, level: _Level) -> str:
        """The columns after `total`: whether the table's policy tells, and likewise of each
        embedded one after its keys.
        """
        if self._told_as is None:
            return ""
        written = [policy_tells(table.sql)]
        found = [ReadColumns(table.schema, table.name, KEYS_COLUMN, 4)]
        for name, target in level.keys_passed():
            place = 4 + len(written)
            written += [f"pg_catalog.string_agg(s.{name}, $$,$$)", policy_tells(target.sql)]
            found.append(ReadColumns(target.schema, target.name, place, place + 1))
        self.reads = tuple(found)
        return "".join(f", {one}" for one in written)

    def _estimate(self, table: CatalogueTable, exact: str) -> str:
        """What the statistics say of a large table, the exact number of a small one."""
        name = self._parameters.bind_text(table.sql)
        return (
            "(select case when c.reltuples > 10000 then c.reltuples::bigint "
            f"else {exact} end from pg_catalog.pg_class c "
            f"where c.oid = pg_catalog.to_regclass({name}))"
        )

    def _level(
        self,
        table: CatalogueTable,
        selection: Selection,
        *,
        relation: Relationship | None = None,
        parent: str = "",
    ) -> _Level:
        level = _Level(f"t{self._aliases}")
        self._aliases += 1
        for item in selection.items:
            if isinstance(item, Embed):
                level.joins.append(self._joined(table, level.alias, item))
        writer = self._writer(table, level)
        for item in selection.items:
            if isinstance(item, Column):
                level.items.append(self._column(writer, item, level.alias))
            else:
                level.items += _embedded_item(level, item)
        if relation is not None:
            level.where.append(_belongs(relation, parent, level.alias))
        level.where += [writer.write(logic) for logic in selection.where]
        level.order = [self._order(writer, table, level, term) for term in selection.order]
        if relation is None or relation.to_many:
            level.bounds = self._bounds(selection)
        return level

    def _writer(self, table: CatalogueTable, level: _Level) -> ConditionWriter:
        def embedded(name: str) -> str | None:
            for joined in level.joins:
                if joined.embed.label == name and name not in table.columns:
                    joined.needed = True
                    return joined.present
            return None

        return ConditionWriter(table.name, level.alias, table.columns, self._parameters, embedded)

    def _joined(self, table: CatalogueTable, parent: str, embed: Embed) -> _Joined:
        relation = find_relationship(self._catalogue, table, embed)
        if embed.spread and relation.to_many:
            raise ApiError(
                400,
                "PGRST119",
                f"'{table.name}' and '{embed.relation}' do not form a many-to-one or one-to-one "
                "relationship",
                hint="Only one row can be spread into another; leave the three dots away",
            )
        level = self._level(relation.target, embed.selection, relation=relation, parent=parent)
        alias = f"e{self._aliases}"
        self._aliases += 1
        target = relation.target
        keys: tuple[tuple[str, CatalogueTable], ...] = ()
        given = ""
        # Of an embedded relation of which nothing is asked no row is in the answer.
        if self._told_as is not None and embed.selection.items:
            own = f"rowcast_{alias}"
            known = target.may_return_key(self._told_as)
            keys = ((own, target), *level.keys_passed())
            given = f", {key_sql(target, level.alias) if known else '$$null$$'} as {own}"
            given += level.keys_given()
        if embed.spread:
            items = ", ".join([*level.items, "true as rowcast_present"])
            inner = f"select {items}{given}{level.sources(target.sql)}{level.ending()}"
        else:
            # An embedded relation of which nothing is asked still says whether there is one.
            made = "pg_catalog.json_agg(s.b)" if relation.to_many else "pg_catalog.to_json(s.b)"
            passed = "".join(
                f", pg_catalog.string_agg(s.{name}, $$,$$) as {name}"
                if relation.to_many
                else f", s.{name}"
                for name, _ in keys
            )
            body = level.with_body(target.sql)
            inner = f"select {made} as j{passed} from (select rowcast_row as b{given}{body}) s"
        join = " join" if embed.inner else " left join"
        present = f"{alias}.rowcast_present" if embed.spread else f"{alias}.j"
        on = f"{present} is not null" if embed.inner else "true"
        value = present
        if relation.to_many:
            value = f"coalesce({alias}.j, '[]')"
        elif embed.spread:
            value = alias
        text = f"{join} lateral ({inner}) {alias} on {on}"
        return _Joined(embed, relation, text, value, present, embed.inner, alias, keys)

    def _column(self, writer: ConditionWriter, item: Column, alias: str) -> str:
        if item.is_all:
            return f"{alias}.*"
        written = writer.field(item.field)
        if item.cast is not None:
            written = f"{written}::{self._cast(item.cast)}"
        plain = item.alias is None and item.cast is None and not item.field.path
        return written if plain else f"{written} as {quote_label(item.label)}"

    def _cast(self, text: str) -> str:
        name = text.rstrip("[]")
        dimensions = text[len(name) :]
        found = self._catalogue.casts.get(_CAST_ALIASES.get(name, name))
        if found is None:
            raise ApiError(
                400,
                "42704",
                f'type "{name}" does not exist',
                hint="Cast to a type of PostgreSQL or one of your own in a captured schema",
            )
        return found + dimensions

    def _order(
        self, writer: ConditionWriter, table: CatalogueTable, level: _Level, term: OrderTerm
    ) -> str:
        direction = " desc" if term.descending else ""
        nulls = f" nulls {term.nulls}" if term.nulls else ""
        if term.relation is None:
            return f"{writer.field(term.field)}{direction}{nulls}"
        for joined in level.joins:
            if joined.embed.label == term.relation:
                break
        else:
            raise ApiError(
                400,
                "PGRST108",
                f"'{term.relation}' is not an embedded resource in this request",
                hint=f"Verify that '{term.relation}' is included in the 'select' query parameter.",
            )
        if joined.relation.to_many:
            raise ApiError(
                400,
                "PGRST118",
                f"A related order on '{term.relation}' is not possible",
                details=f"'{table.name}' and '{term.relation}' do not form a many-to-one or "
                "one-to-one relationship",
            )
        target = joined.relation.target
        alias = f"o{self._aliases}"
        self._aliases += 1
        inner = ConditionWriter(target.name, alias, target.columns, self._parameters)
        belongs = _belongs(joined.relation, level.alias, alias)
        return (
            f"(select {inner.field(term.field)} from {target.sql} {alias} where {belongs} limit 1)"
            f"{direction}{nulls}"
        )

    def _bounds(self, selection: Selection) -> str:
        limit = self._rows_max
        if selection.limit is not None:
            limit = min(limit, selection.limit)
        offset = ""
        if selection.offset:
            offset = f" offset {self._parameters.bind(str(selection.offset))}::bigint"
        return f" limit {self._parameters.bind(str(limit))}::bigint{offset}"


def read_statement(
    catalogue: Catalogue,
    table: CatalogueTable,
    selection: Selection,
    *,
    rows_max: int,
    keys: bool,
    total: Counting,
    told_as: Role | None = None,
) -> Statement:
    """The statement of a GET; `told_as` as ReadWriter has it."""
    parameters = Parameters()
    writer = ReadWriter(catalogue, parameters, rows_max, told_as=told_as)
    text = writer.answer(table, selection, table.sql, keys=keys, total=total)
    return parameters.statement(text, writer.reads)


def policy_tells(table: str) -> str:
    """Whether a row policy of `rowcast audit` tells of what is read here and now."""
    name = sql.Literal(table).as_string()
    return (
        f"case when pg_catalog.row_security_active({name}::text) "
        "and not pg_catalog.pg_is_in_recovery() then exists (select from pg_catalog.pg_policy "
        f"where polrelid = {name}::pg_catalog.regclass and polname = 'rowcast_read') "
        "else false end"
    )


def key_sql(table: CatalogueTable, alias: str) -> str:
    """The JSON text of a row's key, `{"id":7}` as it stands in events' keys."""
    parts: list[str] = []
    for name, label in zip(table.key, table.key_labels, strict=True):
        column = table.columns[name]
        # Numbers that JSON's readers would round are text in events.
        text = "::text" if column.type_name == "numeric" else ""
        parts.append(f"{label}||pg_catalog.to_json({alias}.{column.sql}{text})::text")
    return "$${$$||" + "||$$,$$||".join(parts) + "||$$}$$"


def columns_asked(
    catalogue: Catalogue, table: CatalogueTable, selection: Selection
) -> tuple[str, ...]:
    """The columns of a table that an answer needs, in the table's order."""
    asked: set[str] = {term.field.name for term in selection.order if term.relation is None}
    for item in selection.items:
        if isinstance(item, Embed):
            relation = find_relationship(catalogue, table, item)
            asked.update(own for own, _ in relation.near)
        elif item.is_all:
            return tuple(table.columns)
        else:
            asked.add(item.field.name)
    return tuple(name for name in table.columns if name in asked)


def _belongs(relation: Relationship, parent: str, alias: str) -> str:
    if relation.between is None:
        return _pairs(relation.near, parent, alias, relation)
    between = relation.between
    near = " and ".join(
        f"m.{between.columns[other].sql} = {parent}.{_quoted(own)}" for own, other in relation.near
    )
    far = " and ".join(
        f"m.{between.columns[own].sql} = {alias}.{relation.target.columns[other].sql}"
        for own, other in relation.far
    )
    return f"exists (select from {between.sql} m where {near} and {far})"


def _pairs(
    pairs: Sequence[tuple[str, str]], parent: str, alias: str, relation: Relationship
) -> str:
    return " and ".join(
        f"{alias}.{relation.target.columns[other].sql} = {parent}.{_quoted(own)}"
        for own, other in pairs
    )


def _quoted(name: str) -> str:
    """A column of a foreign key, from the catalogue."""
    return quote_label(name)


def _embedded_item(level: _Level, embed: Embed) -> list[str]:
    joined = next(one for one in level.joins if one.embed is embed)
    if not embed.selection.items:
        return []
    if not embed.spread:
        return [f"{joined.value} as {quote_label(embed.label)}"]
    return [f"{joined.value}.{quote_label(name)}" for name in _spread_names(embed, joined.relation)]


def _spread_names(embed: Embed, relation: Relationship) -> list[str]:
    names: list[str] = []
    for item in embed.selection.items:
        if isinstance(item, Column):
            names += relation.target.columns if item.is_all else [item.label]
        elif not item.spread:
            names.append(item.label)
    return names
