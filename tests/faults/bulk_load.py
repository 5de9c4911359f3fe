"""Transactions of many rows, on tables with a key, with a key of two columns and without one."""

from __future__ import annotations

import random
import threading
from typing import LiteralString

import psycopg

TABLES: tuple[LiteralString, ...] = (
    "create table bulk (id bigint primary key, a int, body text)",
    "create table pairs (a int, b text, c numeric, primary key (b, a))",
    "create table keyless (a int, b text)",
)
_INSERT: LiteralString = """
    insert into bulk select %(n)s * 10000 + i, i, repeat(md5(i::text), 1 + i %% 5)
    from generate_series(1, %(rows)s) i
"""
_STATEMENTS: tuple[LiteralString, ...] = (
    "update bulk set a = a + 1 where id %% 7 = %(n)s %% 7",
    "delete from bulk where id < (%(n)s - 4) * 10000",
    "update bulk set id = -id where id between %(n)s * 10000 and %(n)s * 10000 + 20",
    """insert into pairs select i, md5((%(n)s + i)::text), i / 7.0 from generate_series(1, 40) i
       on conflict do nothing""",
    "delete from pairs where a %% 5 = %(n)s %% 5",
    "update pairs set b = b || 'x' where a = %(n)s %% 40",
    "insert into keyless select %(n)s %% 9, 'same' from generate_series(1, 20)",
    "update keyless set b = %(n)s::text where a = %(n)s %% 9",
    "delete from keyless where a = (%(n)s + 3) %% 9",
)
_LIMIT_S = 60.0


class BulkWriter(threading.Thread):
    """Commits and rolls back such transactions until told to stop, whatever the server does."""

    def __init__(self, dsn: str, seed: int, pause_s: float) -> None:
        super().__init__(name="bulk", daemon=True)
        self._dsn = dsn
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._number = 0
        self.rows = 0
        self.transactions = 0
        self.error: BaseException | None = None

    def stop(self) -> None:
        self._stopped.set()
        self.join(_LIMIT_S)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            while not self._stopped.wait(0.1):
                try:
                    with psycopg.connect(self._dsn, autocommit=True) as connection:
                        while not self._stopped.wait(self._random.uniform(0, self._pause_s)):
                            self._write(connection)
                except (psycopg.OperationalError, psycopg.Rollback):
                    # A rollback leaves the block only where the server died under it.
                    continue
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self.error = error

    def _write(self, connection: psycopg.Connection) -> None:
        self._number += 1
        values = {"n": self._number, "rows": self._random.choice((50, 200, 1_000))}
        roll_back = self._random.random() < 0.15
        rows = 0
        with connection.transaction() as transaction:
            for statement in (_INSERT, *self._random.sample(_STATEMENTS, 4)):
                rows += connection.execute(statement, values).rowcount
            if roll_back:
                raise psycopg.Rollback(transaction)
        if not roll_back:
            self.rows += rows
            self.transactions += 1
