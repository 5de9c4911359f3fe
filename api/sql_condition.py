"""Conditions as SQL. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from api.catalogue import CatalogueColumn
from api.errors import ApiError, UnknownNameError
from api.query_tree import Condition, Field, Logic
from api.statement import Parameters

Columns = Mapping[str, CatalogueColumn]

_OPERATORS: Final = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxl": "&>",
    "nxr": "&<",
    "adj": "-|-",
}
_FULL_TEXT: Final = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
_IS: Final = {
    "null": "is null",
    "not_null": "is not null",
    "true": "is true",
    "false": "is false",
    "unknown": "is unknown",
}


class ConditionWriter:
    """Writes conditions on the columns of one table, which SQL calls `alias`.

    `embedded` gives the SQL of an embedded relation where a name means one, for `rel=is.null`.
    With `made` what is computed of a row stands beside its columns already.
    """

    def __init__(
        self,
        table: str,
        alias: str,
        columns: Columns,
        parameters: Parameters,
        embedded: Callable[[str], str | None] | None = None,
        *,
        made: bool = False,
    ) -> None:
        self._table = table
        self._alias = alias
        self._columns = columns
        self._parameters = parameters
        self._embedded = embedded
        self._made = made

    def write(self, logic: Logic) -> str:
        """The SQL of a condition or of a tree of them."""
        if isinstance(logic, Condition):
            return self._condition(logic)
        if not logic.parts:
            raise ApiError(400, "PGRST100", "A logic tree must have at least one condition")
        joined = f" {logic.kind} ".join(f"({self.write(part)})" for part in logic.parts)
        return f"not ({joined})" if logic.negated else joined

    def column(self, name: str) -> CatalogueColumn:
        """The column of a name; raises UnknownNameError where there is none."""
        found = self._columns.get(name)
        if found is None:
            raise UnknownNameError(
                400,
                "42703",
                f"column {self._table}.{name} does not exist",
                hint=f"The columns of {self._table} are {', '.join(self._columns)}"[:1000],
            )
        return found

    def field(self, field: Field) -> str:
        """A column, or what a path finds in its JSON."""
        column = self.column(field.name)
        written = f"{self._alias}.{column.sql}"
        if column.computed_by is not None and not self._made:
            written = f"{column.computed_by}({self._alias})"
        if not field.path:
            return written
        if column.type_name not in ("json", "jsonb"):
            written = f"pg_catalog.to_jsonb({written})"
        for step in field.path:
            arrow = "->>" if step.as_text else "->"
            index = step.index
            key = self._parameters.bind_text(step.key) if index is None else f"({index})"
            written = f"{written}{arrow}{key}"
        return f"({written})"

    def _condition(self, condition: Condition) -> str:
        embedded = self._embedded(condition.field.name) if self._embedded else None
        if embedded is not None and condition.operator == "is" and not condition.field.path:
            written = f"{embedded} {_IS[condition.value]}"
        else:
            written = self._comparison(condition)
        return f"not ({written})" if condition.negated else written

    def _comparison(self, condition: Condition) -> str:
        field = self.field(condition.field)
        name = condition.operator
        match name:
            case "is":
                return f"{field} {_IS[condition.value]}"
            case "in":
                return f"{field} = any ({self._parameters.bind_array(condition.items)})"
            case "fts" | "plfts" | "phfts" | "wfts":
                return self._full_text(condition, field)
            case _:
                pass
        value = condition.value.replace("*", "%") if "like" in name else condition.value
        place = self._parameters.bind(value)
        if condition.quantifier is not None:
            place = f"{condition.quantifier} ({place})"
        return f"{field} {_OPERATORS[name]} {place}"

    def _full_text(self, condition: Condition, field: str) -> str:
        language = ""
        if condition.language is not None:
            language = f"{self._parameters.bind_text(condition.language)}::regconfig, "
        column = self.column(condition.field.name)
        if condition.field.path or column.type_name != "tsvector":
            text = field if column.type_name in ("json", "jsonb") else f"{field}::text"
            field = f"pg_catalog.to_tsvector({language}{text})"
        query = _FULL_TEXT[condition.operator]
        return f"{field} @@ pg_catalog.{query}({language}{self._parameters.bind(condition.value)})"
