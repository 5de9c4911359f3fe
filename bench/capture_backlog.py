"""The backlogs that captures drain: tables, and transactions of a hundred rows each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg

TRANSACTION_ROWS = 100

_WIDE_TYPES: tuple[LiteralString, ...] = (
    *("integer", "bigint", "numeric(12,2)", "text", "varchar(40)"),
    *("boolean", "timestamptz", "date", "jsonb", "double precision"),
)
_WIDE_VALUES: tuple[LiteralString, ...] = (
    *("n", "n * 1000000", "n / 7.0", "'text of row ' || n", "'name ' || n % 100"),
    *("n % 2 = 0", "now()", "current_date", "jsonb_build_object('n', n)", "sqrt(n)"),
)
_WIDE_COPIES = 4


@dataclass(frozen=True, slots=True)
class Backlog:
    """A table and the statement that changes the rows numbered from $first to $last."""

    name: str
    table: str
    create: str
    prepare: str
    change: str


def backlogs() -> tuple[Backlog, ...]:
    """The three of issue: inserts, updates with the whole old row, a table of 40 columns."""
    narrow = (
        "(id bigint primary key, customer integer, status text, total numeric(10,2),"
        " note text, at timestamptz)"
    )
    insert = (
        "insert into {table} select n, n % 1000, 'pending', n / 100.0, repeat('x', 100), now()"
        " from generate_series({first}, {last}) n"
    )
    columns = ", ".join(
        f"c{copy}_{index} {kind}"
        for copy in range(_WIDE_COPIES)
        for index, kind in enumerate(_WIDE_TYPES)
    )
    values = ", ".join(_WIDE_VALUES * _WIDE_COPIES)
    return (
        Backlog("inserts", "narrow", f"create table narrow {narrow}", "", insert),
        Backlog(
            "updates, REPLICA IDENTITY FULL",
            "updated",
            f"create table updated {narrow}; alter table updated replica identity full",
            insert,
            "update {table} set status = 'paid', at = now() where id between {first} and {last}",
        ),
        Backlog(
            "inserts of 40 columns",
            "wide",
            f"create table wide (id bigint primary key, {columns})",
            "",
            f"insert into {{table}} select n, {values} from generate_series({{first}}, {{last}}) n",
        ),
    )


def write_changes(dsn: str, backlog: Backlog, statement: str, rows: int) -> None:
    """Change so many rows, a hundred in each transaction, on the server itself."""
    body = statement.format(
        table=backlog.table, first="first", last=f"first + {TRANSACTION_ROWS - 1}"
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"""
            do $do$
            declare first bigint;
            begin
                for first in select generate_series(1, {rows}, {TRANSACTION_ROWS}) loop
                    {body};
                    commit;
                end loop;
            end
            $do$
            """.encode()
        )
