"""The record of what listeners have done to a database, kept in that database.

A writing call claims its step (host_call_steps) in the transaction that does the writing, and
keeps its answer there. A retry whose claim finds the step taken is given that answer, and nothing
is done twice; a transaction that failed leaves no claim. Records are dropped after a week.

The table belongs to whoever may create it: `ensure_effects` is for the database's owner. Where
there is none, a retry repeats what was done before the run failed; this is said in the log.
"""

from __future__ import annotations

from typing import Final, LiteralString

import psycopg
from psycopg import sql

EFFECTS_SCHEMA: Final = "rowcast_capture"
"""Nothing in this schema may be captured."""

DDL: Final[tuple[LiteralString, ...]] = (
    "create schema if not exists rowcast_capture",
    """
    create table if not exists rowcast_capture.effects (
        listener text not null,
        event_id text not null,
        step text not null,
        at timestamptz not null default now(),
        result json,
        primary key (listener, event_id, step)
    )
    """,
    "create index if not exists effects_at on rowcast_capture.effects (at)",
    """
    comment on table rowcast_capture.effects is
        'Rowcast: what listeners have done for which event, so that a retry does not repeat it'
    """,
)

IS_KEPT: Final[LiteralString] = """
    select pg_catalog.has_table_privilege(
        pg_catalog.to_regclass('rowcast_capture.effects'), 'insert')
"""
"""t, f, or NULL where there is no such table."""

CLAIM: Final[LiteralString] = """
    insert into rowcast_capture.effects (listener, event_id, step)
    values ($1::text, $2::text, $3::text)
"""
KEEP: Final[LiteralString] = """
    update rowcast_capture.effects set result = $4::json
    where listener = $1::text and event_id = $2::text and step = $3::text
"""
RESULT: Final[LiteralString] = """
    select result::text from rowcast_capture.effects
    where listener = $1::text and event_id = $2::text and step = $3::text
"""
STEPS: Final[LiteralString] = """
    select step from rowcast_capture.effects where listener = $1::text and event_id = $2::text
"""
PURGE: Final[LiteralString] = """
    delete from rowcast_capture.effects where ctid = any(array(
        select ctid from rowcast_capture.effects
        where at < pg_catalog.now() - interval '7 days' limit 10000))
"""


async def ensure_effects(dsn: str, role: str | None = None) -> None:
    """Make the table where it is missing, as its owner, and let a role of listeners use it.

    Raises psycopg.Error where the database is not reached or its owner may not.
    """
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        for statement in DDL:
            await connection.execute(statement)
        if role is not None:
            await connection.execute(
                sql.SQL("grant usage on schema {} to {}").format(
                    sql.Identifier(EFFECTS_SCHEMA), sql.Identifier(role)
                )
            )
            await connection.execute(
                sql.SQL("grant select, insert, update, delete on {} to {}").format(
                    sql.Identifier(EFFECTS_SCHEMA, "effects"), sql.Identifier(role)
                )
            )
