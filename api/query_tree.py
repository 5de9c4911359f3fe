"""A query as it was asked, before any database is looked at: PostgREST's language as values.

https://docs.postgrest.org/en/stable/references/api/tables_views.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Aggregate: TypeAlias = Literal["avg", "count", "max", "min", "sum"]


@dataclass(frozen=True, slots=True)
class JsonStep:
    """One arrow of a path into JSON; `as_text` for `->>`. A number selects from an array."""

    key: str
    as_text: bool

    @property
    def index(self) -> int | None:
        """The place in an array, where the key is a number."""
        digits = self.key.removeprefix("-")
        small = digits.isascii() and digits.isdigit() and len(digits) < 10
        return int(self.key) if small else None


@dataclass(frozen=True, slots=True)
class Field:
    """A column, and the path into the JSON that it holds."""

    name: str
    path: tuple[JsonStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column asked for; `*` where the name is that.

    With an `aggregate` it is that of the column's values, `*` being rows. `cast` is what the column
    is made, `aggregate_cast` what the aggregate is.
    """

    field: Field
    alias: str | None = None
    cast: str | None = None
    aggregate: Aggregate | None = None
    aggregate_cast: str | None = None

    @property
    def is_all(self) -> bool:
        """Whether every column is asked for."""
        return self.field.name == "*" and not self.field.path and self.aggregate is None

    @property
    def label(self) -> str:
        """The key in the answer: the alias, the aggregate, the last word of a path, or the name."""
        if self.alias is not None:
            return self.alias
        if self.aggregate is not None:
            return self.aggregate
        for step in reversed(self.field.path):
            if step.index is None:
                return step.key
        return self.field.name


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator value`; the value is text as it was given, a list for `in`."""

    field: Field
    operator: str
    value: str
    items: tuple[str, ...] = ()
    negated: bool = False
    quantifier: Literal["any", "all"] | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Junction:
    """Conditions joined by `and` or `or`."""

    kind: Literal["and", "or"]
    parts: tuple[Logic, ...]
    negated: bool = False


Logic: TypeAlias = "Condition | Junction"


@dataclass(frozen=True, slots=True)
class OrderTerm:
    """One term of an order; `relation` where it is a column of an embedded row."""

    field: Field
    descending: bool = False
    nulls: Literal["first", "last"] | None = None
    relation: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of one table: columns and embedded rows, conditions, order, and how many."""

    items: tuple[Column | Embed, ...] = (Column(Field("*")),)
    where: tuple[Logic, ...] = ()
    order: tuple[OrderTerm, ...] = ()
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Embed:
    """Rows of a related table inside each row; `hints` say which relation where there are many."""

    relation: str
    selection: Selection
    alias: str | None = None
    hints: tuple[str, ...] = ()
    inner: bool = False
    spread: bool = False

    @property
    def label(self) -> str:
        """The key in the answer."""
        return self.alias or self.relation


@dataclass(frozen=True, slots=True)
class Query:
    """The whole query string; `arguments` are those of a function called with GET."""

    selection: Selection = field(default_factory=Selection)
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    arguments: tuple[tuple[str, str], ...] = ()
