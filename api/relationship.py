"""How one table's rows belong to another's: by a foreign key either way, or by a table between.

The rules for names and hints are PostgREST's, so that what its clients ask finds the same rows.
https://docs.postgrest.org/en/stable/references/api/resource_embedding.html
"""

from __future__ import annotations

from dataclasses import dataclass

from api.catalogue import Catalogue, CatalogueTable
from api.errors import ApiError, UnknownNameError
from api.query_tree import Embed


@dataclass(frozen=True, slots=True)
class Relationship:
    """From a table to rows of another.

    `near` pairs a column of the table with one of the target or, where there is a table between,
    of that; `far` pairs a column of the table between with one of the target.
    """

    target: CatalogueTable
    to_many: bool
    near: tuple[tuple[str, str], ...]
    constraint: str
    between: CatalogueTable | None = None
    far: tuple[tuple[str, str], ...] = ()

    def describe(self) -> str:
        """For an error."""
        kind = "many" if self.to_many else "one"
        through = f" through {self.between.name}" if self.between else ""
        return f"to {kind} of {self.target.name}{through} by {self.constraint}"


def find_relationship(catalogue: Catalogue, table: CatalogueTable, embed: Embed) -> Relationship:
    """The one relationship that an embedded relation means.

    Raises UnknownNameError where there is none (PGRST200), ApiError for more (PGRST201).
    """
    found = [
        *_to_one(catalogue, table, embed),
        *_to_many(catalogue, table, embed),
        *_many_to_many(catalogue, table, embed),
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        hinted = f" using the hint '{'!'.join(embed.hints)}'" if embed.hints else ""
        raise UnknownNameError(
            400,
            "PGRST200",
            f"Could not find a relationship between '{table.name}' and '{embed.relation}' in the "
            "schema cache",
            details=f"Searched for a foreign key relationship between '{table.name}' and "
            f"'{embed.relation}'{hinted} in the schema '{table.schema}', but no matches were "
            "found.",
            hint=_near(catalogue, table),
        )
    raise ApiError(
        300,
        "PGRST201",
        f"Could not embed because more than one relationship was found for '{table.name}' and "
        f"'{embed.relation}'",
        details="; ".join(one.describe() for one in found),
        hint=f"Try changing '{embed.relation}' to one of the following: "
        + ", ".join(f"'{embed.relation}!{one.constraint}'" for one in found),
    )


def _to_one(catalogue: Catalogue, table: CatalogueTable, embed: Embed) -> list[Relationship]:
    found: list[Relationship] = []
    for key in catalogue.referring.get(table.place, ()):
        names = {key.target[1], key.name}
        if len(key.columns) == 1:
            names.add(key.columns[0])
        hints = {key.name, key.target[1], *_single(key.columns)}
        # Of a table's relation to itself, its name alone means the rows that refer to it.
        itself = key.table == key.target and embed.relation == table.name and not embed.hints
        if embed.relation in names and hints.issuperset(embed.hints) and not itself:
            target = catalogue.tables.get(key.target)
            if target is not None:
                pairs = tuple(zip(key.columns, key.target_columns, strict=True))
                found.append(Relationship(target, False, pairs, key.name))
    return found


def _to_many(catalogue: Catalogue, table: CatalogueTable, embed: Embed) -> list[Relationship]:
    found: list[Relationship] = []
    for key in catalogue.referred.get(table.place, ()):
        hints = {key.name, key.table[1]}
        if key.table != key.target:
            hints.update(_single(key.columns))
        hints.update(_single(key.target_columns) if key.table == key.target else ())
        by_constraint = embed.relation == key.name and key.table != key.target
        named = embed.relation == key.table[1] or by_constraint
        if key.table == key.target and embed.hints == (key.name,):
            named = False  # by its constraint, a table's relation to itself means the one it names
        target = catalogue.tables.get(key.table)
        if named and hints.issuperset(embed.hints) and target is not None:
            pairs = tuple(zip(key.target_columns, key.columns, strict=True))
            found.append(Relationship(target, not key.unique, pairs, key.name))
    return found


def _many_to_many(catalogue: Catalogue, table: CatalogueTable, embed: Embed) -> list[Relationship]:
    found: list[Relationship] = []
    for near in catalogue.referred.get(table.place, ()):
        between = catalogue.tables.get(near.table)
        if between is None:
            continue
        for far in catalogue.referring.get(near.table, ()):
            target = catalogue.tables.get(far.target)
            if far == near or target is None or embed.relation != target.name:
                continue
            # As PostgREST has it: the columns of both keys are part of the table's own key.
            if not set(between.key).issuperset((*near.columns, *far.columns)):
                continue
            hints = {between.name, near.name, far.name}
            if hints.issuperset(embed.hints):
                found.append(
                    Relationship(
                        target,
                        True,
                        tuple(zip(near.target_columns, near.columns, strict=True)),
                        between.name,
                        between,
                        tuple(zip(far.columns, far.target_columns, strict=True)),
                    )
                )
    return found


def _single(columns: tuple[str, ...]) -> tuple[str, ...]:
    return columns if len(columns) == 1 else ()


def _near(catalogue: Catalogue, table: CatalogueTable) -> str | None:
    related = sorted(
        {key.target[1] for key in catalogue.referring.get(table.place, ())}
        | {key.table[1] for key in catalogue.referred.get(table.place, ())}
    )
    return f"Related to '{table.name}' are: {', '.join(related)}" if related else None
