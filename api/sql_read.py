"""Reading as SQL: one statement that gives the answer's JSON, the number of rows and their keys.

The database builds the JSON, embedded rows by lateral joins, so that nothing of a row is looked
at here. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from psycopg import sql

from api.catalogue import Catalogue, CatalogueTable
from api.errors import ApiError, UnknownNameError
from api.query_tree import (
    Aggregate,
    Column,
    Condition,
    Embed,
    Field,
    Logic,
    OrderTerm,
    Selection,
)
from api.relationship import Relationship, find_relationship
from api.rows_answer import KEYS_COLUMN
from api.sql_condition import ConditionWriter
from api.sql_level import Item, Joined, Level
from api.statement import Parameters, ReadColumns, Statement, quote_label
from events.token import Role

Counting: TypeAlias = Literal["exact", "estimated"] | None
"""Whether all rows that match are counted; an estimate may come from the table's statistics."""

_CAST_ALIASES = {"int": "integer", "float": "double precision", "decimal": "numeric"}


class ReadWriter:
    """Writes statements that read, or that give back what was written.

    `told_as` is the role whose reads are to be told of, None where they are not: then `reads`
    says, once the answer is written, in which of its columns. With `made` the rows come from
    a CTE, with what is computed of them and asked for.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        parameters: Parameters,
        rows_max: int,
        *,
        told_as: Role | None = None,
        made: bool = False,
    ) -> None:
        self._made = made
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
        # Of a group no row is in the answer, nor is its key.
        keys = keys and not level.aggregates
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

    def _told(self, table: CatalogueTable, level: Level) -> str:
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
    ) -> Level:
        level = Level(f"t{self._aliases}")
        self._aliases += 1
        for item in selection.items:
            if isinstance(item, Embed):
                level.joins.append(self._joined(table, level.alias, item))
        writer = self._writer(table, level, made=self._made and relation is None)
        columns = [item for item in selection.items if isinstance(item, Column)]
        grouped = any(_aggregate(table, item) for item in columns)
        for item in selection.items:
            if isinstance(item, Embed):
                level.items += _embedded_item(level, item, grouped=grouped)
            elif item.is_all and grouped:
                level.items += [
                    self._column(table, writer, Column(Field(name)), level.alias)
                    for name in table.columns
                ]
            else:
                level.items.append(self._column(table, writer, item, level.alias))
        if relation is not None:
            level.where.append(_belongs(relation, parent, level.alias))
        level.where += [writer.write(logic) for logic in selection.where]
        level.order = [self._order(writer, table, level, term) for term in selection.order]
        if relation is None or relation.to_many:
            level.bounds = self._bounds(selection)
        return level

    def _writer(self, table: CatalogueTable, level: Level, *, made: bool) -> ConditionWriter:
        def embedded(name: str) -> str | None:
            for joined in level.joins:
                if joined.embed.label == name and name not in table.columns:
                    joined.needed = True
                    return joined.present
            return None

        return ConditionWriter(
            table.name, level.alias, table.readable, self._parameters, embedded, made=made
        )

    def _joined(self, table: CatalogueTable, parent: str, embed: Embed) -> Joined:
        relation = find_relationship(self._catalogue, table, embed)
        level = self._level(relation.target, embed.selection, relation=relation, parent=parent)
        if embed.spread and level.aggregates:
            raise ApiError(
                400,
                "PGRST127",
                "Feature not implemented",
                details=f"Aggregates of '{embed.relation}', which is spread",
                hint="Leave the three dots away",
            )
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
            known = known and not level.aggregates
            given = f", {key_sql(target, level.alias) if known else '$$null$$'} as {own}"
            given += level.keys_given()
        names = tuple(
            name
            for item in level.items
            for name in (target.columns if item.label is None else (item.label,))
        )
        passed = "".join(
            f", pg_catalog.string_agg(s.{name}, $$,$$) as {name}"
            if relation.to_many
            else f", s.{name}"
            for name, _ in keys
        )
        if embed.spread:
            items = ", ".join([*(item.written for item in level.items), "true as rowcast_present"])
            inner = f"select {items}{given}{level.sources(target.sql)}{level.ending()}"
            if relation.to_many:
                lists = "".join(
                    f"coalesce(pg_catalog.json_agg(s.{label}), '[]') as {label}, "
                    for label in map(quote_label, names)
                )
                there = "pg_catalog.bool_and(s.rowcast_present) as rowcast_present"
                inner = f"select {lists}{there}{passed} from ({inner}) s"
        else:
            # An embedded relation of which nothing is asked still says whether there is one.
            made = "pg_catalog.json_agg(s.b)" if relation.to_many else "pg_catalog.to_json(s.b)"
            body = level.with_body(target.sql)
            inner = f"select {made} as j{passed} from (select rowcast_row as b{given}{body}) s"
        join = " join" if embed.inner else " left join"
        present = f"{alias}.rowcast_present" if embed.spread else f"{alias}.j"
        on = f"{present} is not null" if embed.inner else "true"
        value = present
        if embed.spread:
            value = alias
        elif relation.to_many:
            value = f"coalesce({alias}.j, '[]')"
        text = f"{join} lateral ({inner}) {alias} on {on}"
        return Joined(embed, relation, text, value, present, embed.inner, alias, names, keys)

    def _column(
        self, table: CatalogueTable, writer: ConditionWriter, item: Column, alias: str
    ) -> Item:
        if item.is_all:
            return Item(f"{alias}.*", None)
        aggregate = _aggregate(table, item)
        if aggregate is not None and (aggregate != item.aggregate or item.field.name == "*"):
            written = "pg_catalog.count(*)"
        else:
            written = writer.field(item.field)
            if item.cast is not None:
                written = f"{written}::{self._cast(item.cast)}"
            if aggregate is not None:
                written = f"pg_catalog.{aggregate}({written})"
        if item.aggregate_cast is not None:
            written = f"{written}::{self._cast(item.aggregate_cast)}"
        return Item(written, item.label, aggregates=aggregate is not None)

    def _cast(self, text: str) -> str:
        name = text.rstrip("[]")
        dimensions = text[len(name) :]
        found = self._catalogue.casts.get(_CAST_ALIASES.get(name, name))
        if found is None:
            raise UnknownNameError(
                400,
                "42704",
                f'type "{name}" does not exist',
                hint="Cast to a type of PostgreSQL or one of your own in a captured schema",
            )
        return found + dimensions

    def _order(
        self, writer: ConditionWriter, table: CatalogueTable, level: Level, term: OrderTerm
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
        inner = ConditionWriter(target.name, alias, target.readable, self._parameters)
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


def computed_asked(table: CatalogueTable, selection: Selection, alias: str) -> list[str]:
    """What is computed of a row and asked for, as it stands in a select of such rows."""
    names = {term.field.name for term in selection.order if term.relation is None}
    names |= {item.field.name for item in selection.items if isinstance(item, Column)}
    names |= {name for logic in selection.where for name in _names(logic)}
    return [
        f"{column.computed_by}({alias}) as {column.sql}"
        for name, column in table.computed.items()
        if name in names and name not in table.columns
    ]


def _names(logic: Logic) -> set[str]:
    if isinstance(logic, Condition):
        return {logic.field.name}
    return {name for part in logic.parts for name in _names(part)}


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


def _aggregate(table: CatalogueTable, item: Column) -> Aggregate | None:
    """The aggregate that an item is; `count` alone is one too, unless there is such a column."""
    old = item.field == Field("count") and item.cast is None and "count" not in table.readable
    return "count" if old and item.aggregate is None else item.aggregate


def _embedded_item(level: Level, embed: Embed, *, grouped: bool) -> list[Item]:
    joined = next(one for one in level.joins if one.embed is embed)
    if not embed.selection.items:
        return []
    # Rows are grouped by what is equal, which json cannot be.
    cast = "::pg_catalog.jsonb" if grouped else ""
    if not embed.spread:
        return [Item(f"{joined.value}{cast}", embed.label)]
    lists = cast if joined.relation.to_many else ""
    return [Item(f"{joined.value}.{quote_label(name)}{lists}", name) for name in joined.names]
