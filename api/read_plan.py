"""Reads that were planned before: the same question with other values has the same statement.

Most calls differ from one before only in the values of plain filters (`id=eq.7`). Those values are
left out of the key, and put in their places of the statement that was made then. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from api.statement import ReadColumns, Statement

_PLANS_MAX: Final = 1_000
_PLAIN: Final = frozenset(("eq", "neq", "gt", "gte", "lt", "lte"))
_RESERVED: Final = frozenset(("select", "order", "limit", "offset", "columns", "on_conflict"))


@dataclass(frozen=True, slots=True)
class Shape:
    """A query's parameters without the values that may differ."""

    key: Hashable
    parameters: tuple[tuple[str, str], ...]
    values: tuple[str | None, ...]

    @classmethod
    def of(cls, parameters: Sequence[tuple[str, str]]) -> Shape:
        """The shape of a query."""
        key: list[tuple[str, str]] = []
        values: list[str | None] = []
        for name, value in parameters:
            operator, dot, operand = value.partition(".")
            if dot and operator in _PLAIN and name not in _RESERVED:
                key.append((name, operator))
                values.append(operand)
            else:
                # A space keeps a whole value from being taken for an operator.
                key.append((name, f" {value}"))
                values.append(None)
        return cls(tuple(key), tuple(parameters), tuple(values))

    def marked(self, marker: str) -> list[tuple[str, str]]:
        """The parameters with a mark for each value that may differ."""
        return [
            (name, value if operand is None else f"{value.partition('.')[0]}.{marker}{place}")
            for place, ((name, value), operand) in enumerate(
                zip(self.parameters, self.values, strict=True)
            )
        ]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A statement, the parameters that are values of the query, and where its rows begin."""

    text: str
    parameters: tuple[bytes, ...]
    slots: tuple[tuple[int, int], ...]
    offset: int
    reads: tuple[ReadColumns, ...]

    @classmethod
    def of(cls, statement: Statement, shape: Shape, marker: str, offset: int) -> ReadPlan | None:
        """From a statement made of marked parameters; None where a mark is no parameter of it."""
        places = {
            f"{marker}{slot}".encode(): slot
            for slot, operand in enumerate(shape.values)
            if operand is not None
        }
        slots = tuple(
            (place, places[value])
            for place, value in enumerate(statement.parameters)
            if value in places
        )
        if len({slot for _, slot in slots}) != len(places):
            return None
        return cls(statement.text, statement.parameters, slots, offset, statement.reads)

    def fill(self, shape: Shape) -> Statement:
        """The statement with the values of a query of this shape."""
        parameters = list(self.parameters)
        for place, slot in self.slots:
            parameters[place] = (shape.values[slot] or "").encode()
        return Statement(self.text, tuple(parameters), self.reads)


class ReadPlans:
    """The plans of one catalogue, the least used forgotten first."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Hashable, ReadPlan] = OrderedDict()

    def find(self, key: Hashable) -> ReadPlan | None:
        """The plan of a key."""
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
        return plan

    def keep(self, key: Hashable, plan: ReadPlan) -> None:
        """Remember a plan."""
        self._plans[key] = plan
        if len(self._plans) > _PLANS_MAX:
            self._plans.popitem(last=False)
