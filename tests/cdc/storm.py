"""Writers that change a table from several threads at once, as long as a test lets them.

Every change leaves its mark (`seq`), so that what was committed can be counted afterwards.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import LiteralString

import psycopg

_LIMIT_S = 30.0


class Writer(threading.Thread):
    """Inserts, updates, deletes and changes keys of `items (id int primary key, seq text)`.

    `committed` are the marks of all that it has committed as an insert, update or changed key.
    One that is `stubborn` connects again when the server is gone; it may have committed more then.
    """

    def __init__(
        self, dsn: str, number: int, keys: int, pause_s: float, *, stubborn: bool = False
    ) -> None:
        super().__init__(name=f"storm-{number}", daemon=True)
        self._dsn = dsn
        self._number = number
        self._keys = keys
        self._pause_s = pause_s
        self._random = random.Random(number)
        self._stubborn = stubborn
        self._stopped = threading.Event()
        self._seq = 0
        self.committed: list[str] = []
        self.deleted = 0
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
                    self._write_on()
                except (psycopg.OperationalError, psycopg.Rollback):
                    # A rollback leaves the block only where the server died under it.
                    if not self._stubborn:
                        raise
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self.error = error

    def _write_on(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stopped.wait(self._random.uniform(0, self._pause_s)):
                self._write(connection)

    def _write(self, connection: psycopg.Connection) -> None:
        marks: list[str] = []
        deleted = 0
        roll_back = self._random.random() < 0.1
        try:
            with connection.transaction() as transaction:
                for _ in range(self._random.choice((1, 1, 2, 5))):
                    # A part that fails is undone alone, in a subtransaction.
                    with connection.transaction():
                        mark, count = self._change(connection)
                    marks += [mark] * (count if mark else 0)
                    deleted += 0 if mark else count
                if roll_back:
                    raise psycopg.Rollback(transaction)
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
            return
        if not roll_back:
            self.committed += marks
            self.deleted += deleted

    def _change(self, connection: psycopg.Connection) -> tuple[str, int]:
        """The mark of the change, empty for a delete, and how many rows it touched."""
        self._seq += 1
        mark = f"{self._number}.{self._seq}"
        key = self._random.randrange(self._keys)
        values = {"key": key, "mark": mark, "new": self._random.randrange(self._keys)}
        kinds: list[tuple[LiteralString, str]] = [
            ("insert into items values (%(key)s, %(mark)s) on conflict do nothing", mark),
            ("update items set seq = %(mark)s where id = %(key)s", mark),
            ("delete from items where id = %(key)s", ""),
            (
                """update items set id = %(new)s, seq = %(mark)s where id = %(key)s
                and not exists (select from items where id = %(new)s)""",
                mark,
            ),
        ]
        statement, told = self._random.choices(kinds, (3, 4, 2, 2))[0]
        return told, connection.execute(statement, values).rowcount


@contextmanager
def storm(
    dsn: str, *, writers: int, keys: int, pause_s: float, stubborn: bool = False
) -> Generator[list[Writer]]:
    """So many writers until the end of the context."""
    threads = [Writer(dsn, number, keys, pause_s, stubborn=stubborn) for number in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
