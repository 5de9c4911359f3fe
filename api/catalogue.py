"""What there is in a PostgreSQL source: tables, columns, keys and functions, as values.

Identifiers carry their quoted form, made by psycopg when the catalogue was read: SQL is put
together from those and from `$1`, never from what a client wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from events.token import Role


@dataclass(frozen=True, slots=True)
class CatalogueColumn:
    """A column; `type_sql` is format_type's text.

    `computed_by` is the SQL of the function that makes it of a row, where it is not stored.
    """

    name: str
    sql: str
    type_sql: str
    type_name: str
    required: bool
    default: str | None
    writable: bool
    is_array: bool
    labels: tuple[str, ...]
    description: str | None
    selectable_by: frozenset[str]
    computed_by: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to another table's; `unique` where one row at most refers to each."""

    name: str
    table: tuple[str, str]
    columns: tuple[str, ...]
    target: tuple[str, str]
    target_columns: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class CatalogueTable:
    """A table; `key` is its primary key, `row_security` whether policies decide on rows, `computed`
    what functions make of a row.

    `key_labels` has a string literal for each column of the key, `'"id":'`.
    """

    schema: str
    name: str
    sql: str
    columns: Mapping[str, CatalogueColumn]
    key: tuple[str, ...]
    key_labels: tuple[str, ...]
    row_security: bool
    description: str | None
    privileges: Mapping[str, frozenset[str]]
    computed: Mapping[str, CatalogueColumn] = field(default_factory=dict[str, CatalogueColumn])

    @property
    def readable(self) -> Mapping[str, CatalogueColumn]:
        """What can be asked for by name; `*` leaves out what is computed."""
        return {**self.computed, **self.columns} if self.computed else self.columns

    @property
    def place(self) -> tuple[str, str]:
        """Schema and name."""
        return self.schema, self.name

    def may_return_key(self, role: Role) -> bool:
        """Whether a role may read the key of each row it writes."""
        return bool(self.key) and all(role in self.columns[name].selectable_by for name in self.key)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a function."""

    name: str
    sql: str
    type_sql: str
    required: bool
    variadic: bool


@dataclass(frozen=True, slots=True)
class CatalogueFunction:
    """A function; `rows` describes the rows it gives, where it gives rows.

    `result` is the table whose rows those are, so that related ones can be embedded.
    """

    schema: str
    name: str
    sql: str
    arguments: tuple[Argument, ...]
    volatile: bool
    returns_set: bool
    returns_void: bool
    rows: CatalogueTable | None
    result: tuple[str, str] | None
    description: str | None

    def accepts(self, names: frozenset[str]) -> bool:
        """Whether it can be called with these arguments."""
        known = {argument.name for argument in self.arguments}
        needed = {argument.name for argument in self.arguments if argument.required}
        return needed <= names <= known


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One source's, at a moment; `casts` has the SQL of each type that values may be cast to."""

    source: str
    tables: Mapping[tuple[str, str], CatalogueTable]
    foreign_keys: tuple[ForeignKey, ...]
    functions: Mapping[tuple[str, str], tuple[CatalogueFunction, ...]]
    casts: Mapping[str, str]
    referring: Mapping[tuple[str, str], tuple[ForeignKey, ...]] = field(init=False)
    referred: Mapping[tuple[str, str], tuple[ForeignKey, ...]] = field(init=False)

    def __post_init__(self) -> None:
        referring: dict[tuple[str, str], tuple[ForeignKey, ...]] = {}
        referred: dict[tuple[str, str], tuple[ForeignKey, ...]] = {}
        for key in self.foreign_keys:
            referring[key.table] = (*referring.get(key.table, ()), key)
            referred[key.target] = (*referred.get(key.target, ()), key)
        object.__setattr__(self, "referring", referring)
        object.__setattr__(self, "referred", referred)

    @property
    def schemas(self) -> tuple[str, ...]:
        """Every schema that something is in, `public` first."""
        found = {schema for schema, _ in (*self.tables, *self.functions)}
        return tuple(sorted(found, key=lambda schema: (schema != "public", schema)))


@dataclass(frozen=True, slots=True)
class CollectionAccess:
    """Names of collections by role, `*` for all; service_role may everything."""

    readable_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    writable_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def allows(self, role: str, name: str, *, writing: bool) -> bool:
        """Whether a role may read a collection, or write it."""
        open_to = (self.writable_by if writing else self.readable_by).get(role, ())
        return role == "service_role" or name in open_to or "*" in open_to


NO_ACCESS: Final = CollectionAccess()


@dataclass(frozen=True, slots=True)
class Collections:
    """What there is in a source whose documents have no columns, and who may what there."""

    source: str
    names: tuple[str, ...]
    access: CollectionAccess
