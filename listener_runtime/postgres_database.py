"""One PostgreSQL source, as all runs share it: connections, types, described statements.

A statement is described once (its parameters' types are asked for), after which its calls take
one round trip. What is remembered of it is forgotten when it fails, since tables change.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, LiteralString, TypeVar

from psycopg.pq.abc import PGresult

from events.values.types import TypeRow
from listener_runtime import postgres_effects
from listener_runtime.errors import HostCallError
from listener_runtime.postgres_failure import INDETERMINATE_TYPE, StatementError
from listener_runtime.postgres_parameters import Types
from listener_runtime.postgres_pool import PostgresPool
from listener_runtime.postgres_rows import RowCollector
from listener_runtime.postgres_session import PostgresSession, Request, describe, query
from listener_runtime.postgres_statement import Statement

_log = logging.getLogger(__name__)

_DESCRIPTIONS_KEPT: Final = 1_000
_CACHED_SQL_LENGTH: Final = 10_000
_EFFECTS_ASKED_AGAIN_S: Final = 60.0
_PURGED_EVERY_S: Final = 600.0
_PARAMETER: Final = re.compile(r"\$(\d+)")
_TYPES: LiteralString = """
    with recursive wanted(oid) as (
        select pg_catalog.unnest($1::oid[])
        union
        select part.oid from wanted
        join pg_catalog.pg_type t on t.oid = wanted.oid
        cross join lateral (values (t.typbasetype), (t.typelem)) part(oid)
        where part.oid <> 0
    )
    select oid::bigint, typtype::text, typbasetype::bigint, typelem::bigint,
           typcategory::text, typdelim::text
    from pg_catalog.pg_type where oid in (select oid from wanted)
"""


_Kept = TypeVar("_Kept")


@dataclass(frozen=True, slots=True)
class Description:
    """Types of a statement's parameters, and those that had to be declared to find them out."""

    oids: tuple[int, ...]
    declared: tuple[int, ...] = ()


class PostgresDatabase:
    """A source's connections and what is known of it."""

    def __init__(self, source: str, dsn: str) -> None:
        self.source = source
        self.pool = PostgresPool(source, dsn)
        self.types = Types()
        self._descriptions: OrderedDict[str, Description] = OrderedDict()
        self._writing: OrderedDict[str, None] = OrderedDict()
        self._keeps_effects = False
        self._effects_asked_s = float("-inf")
        self._effects_asking = asyncio.Lock()
        self._purged_s = time.monotonic()
        self._purge: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Close all connections that no run has."""
        if self._purge is not None:
            self._purge.cancel()
            await asyncio.gather(self._purge, return_exceptions=True)
        await self.pool.close()

    async def request(
        self, session: PostgresSession, statement: Statement, rows: RowCollector
    ) -> Request:
        """The statement with its parameters as text; raises HostCallError where they do not fit."""
        description = await self._description(session, statement)
        await self.learn(session, self.types.unknown(description.oids))
        params = [
            self.types.parameter(number, value, oid)
            for number, (value, oid) in enumerate(
                zip(statement.params, description.oids, strict=True), 1
            )
        ]
        return query(statement.sql, params, rows, description.declared)

    def forget(self, statement: Statement) -> None:
        """Ask for the statement's types anew next time."""
        self._descriptions.pop(statement.sql, None)

    def writes(self, statement: Statement) -> bool:
        """Whether the statement is known to need a writing transaction."""
        return statement.sql in self._writing

    def note_writing(self, statement: Statement) -> None:
        """Know next time that the statement needs a writing transaction."""
        if len(statement.sql) <= _CACHED_SQL_LENGTH:
            _keep(self._writing, statement.sql, None)

    async def learn(self, session: PostgresSession, oids: Iterable[int]) -> None:
        """Know these types and those that they are made of."""
        wanted = ",".join(str(oid) for oid in sorted(oids))
        if not wanted:
            return
        (result,) = await session.exchange([query(_TYPES, (f"{{{wanted}}}".encode(),))])
        self.types.add(
            TypeRow(int(oid), kind, int(base), int(element), category, delimiter)
            for oid, kind, base, element, category, delimiter in _texts(result)
        )

    async def keeps_effects(self, session: PostgresSession) -> bool:
        """Whether effects can be recorded; makes the table where the role may.

        The session must be in no transaction.
        """
        if self._keeps_effects:
            return True
        # Who comes while it is being asked waits: it must not write without a record.
        async with self._effects_asking:
            now_s = time.monotonic()
            if not self._keeps_effects and now_s > self._effects_asked_s + _EFFECTS_ASKED_AGAIN_S:
                reason = await self._ask_for_effects(session)
                if reason and self._effects_asked_s < 0:
                    _log.warning(
                        "%s: without the table %s.effects a retry repeats what its run has "
                        "written; its owner can make it (%s)",
                        self.source,
                        postgres_effects.EFFECTS_SCHEMA,
                        reason,
                    )
                self._effects_asked_s = now_s
                self._keeps_effects = not reason
        return self._keeps_effects

    async def _ask_for_effects(self, session: PostgresSession) -> str:
        """Why effects cannot be recorded; empty where they can."""
        is_kept = query(postgres_effects.IS_KEPT)
        (result,) = await session.exchange([is_kept])
        reason = "the role may not write to it"
        if result.get_value(0, 0) is None:
            try:
                await session.exchange([query(statement) for statement in postgres_effects.DDL])
            except StatementError as error:
                reason = str(error)
            (result,) = await session.exchange([is_kept])
        return "" if result.get_value(0, 0) == b"t" else reason

    def purge_effects(self) -> None:
        """Drop records that are too old, in the background, from time to time."""
        now_s = time.monotonic()
        if now_s < self._purged_s + _PURGED_EVERY_S:
            return
        self._purged_s = now_s
        self._purge = asyncio.create_task(self._drop_old_effects())

    async def _drop_old_effects(self) -> None:
        try:
            async with self.pool.session("purge") as session:
                await session.exchange([query(postgres_effects.PURGE)])
        except HostCallError as error:
            _log.warning("%s: old effects could not be dropped: %s", self.source, error)

    async def _description(self, session: PostgresSession, statement: Statement) -> Description:
        """The types of a statement's parameters.

        Raises StatementError where PostgreSQL does not understand it, HostCallError where it has
        another number of parameters; a transaction that is open stays whole.
        """
        found = self._descriptions.get(statement.sql)
        if found is None:
            found = await self._describe(session, statement)
            if not found.declared and len(statement.sql) <= _CACHED_SQL_LENGTH:
                _keep(self._descriptions, statement.sql, found)
        if len(found.oids) != len(statement.params):
            raise HostCallError(
                f"found {len(statement.params)} parameters, expected {len(found.oids)}, as the "
                "statement has $1, $2, ..."
            )
        return found

    async def _describe(self, session: PostgresSession, statement: Statement) -> Description:
        declared: list[int] = []
        while True:
            try:
                oids = await _parameter_types(session, statement.sql, declared)
            except StatementError as error:
                number = _undetermined(error, len(statement.params))
                if number is None or (number <= len(declared) and declared[number - 1]):
                    raise
                declared += [0] * (number - len(declared))
                declared[number - 1] = _usual_type(statement.params[number - 1])
            else:
                padding = [0] * (len(oids) - len(declared)) if declared else []
                return Description(oids, (*declared, *padding))


async def _parameter_types(
    session: PostgresSession, sql: str, declared: Sequence[int]
) -> tuple[int, ...]:
    requests = describe(sql, declared)
    if not session.in_transaction:
        result = (await session.exchange(requests))[-1]
    else:
        try:
            results = await session.exchange(
                [query("savepoint rowcast"), *requests, query("release savepoint rowcast")]
            )
        except StatementError:
            await session.exchange(
                [query("rollback to savepoint rowcast"), query("release savepoint rowcast")]
            )
            raise
        result = results[2]
    return tuple(result.param_type(index) for index in range(result.nparams))


def _undetermined(error: StatementError, count: int) -> int | None:
    """The parameter whose type PostgreSQL cannot tell, as in jsonb_build_object('a', $1)."""
    match = _PARAMETER.search(str(error)) if error.sqlstate == INDETERMINATE_TYPE else None
    if match is None or not 1 <= int(match[1]) <= count:
        return None
    return int(match[1])


def _usual_type(value: object) -> int:
    """The type that a JSON value has by itself: its oid in pg_type."""
    match value:
        case bool():
            return 16
        case int():
            return 23 if -(2**31) <= value < 2**31 else 20 if -(2**63) <= value < 2**63 else 1700
        case float():
            return 701
        case dict() | list():
            return 3802
        case _:
            return 25


def _texts(result: PGresult) -> list[list[str]]:
    return [
        [(result.get_value(row, column) or b"").decode() for column in range(result.nfields)]
        for row in range(result.ntuples)
    ]


def _keep(kept: OrderedDict[str, _Kept], key: str, value: _Kept) -> None:
    kept[key] = value
    while len(kept) > _DESCRIPTIONS_KEPT:
        kept.popitem(last=False)
