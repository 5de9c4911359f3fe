"""A database that a thread writes to without pause, and what it has committed there."""

from __future__ import annotations

import random
import threading
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import psycopg
from pymongo import MongoClient
from pymongo.client_session import ClientSession

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - JSON taken apart by assertions
KEYS = 40
LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the row `key`: `seq` is what was written, None for a delete."""

    key: int
    op: str
    seq: int | None


class Database(ABC):
    """Where the writer writes. A transaction is a list of changes to make."""

    kind: str
    address: str

    def __init__(self) -> None:
        self.scope = f"k{uuid.uuid4().hex[:12]}"

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def commit(self, changes: list[Change]) -> None: ...

    @abstractmethod
    def roll_back(self, changes: list[Change]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def topic(self, source: str) -> str:
        return f"{source}.{self.scope}.items"

    @abstractmethod
    def change(self, body: Json) -> Change: ...


class Postgres(Database):
    kind = "postgres"

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self.address = dsn
        self.said: list[int] = []
        self._connection = psycopg.connect(dsn)

    def prepare(self) -> None:
        with self._connection.transaction():
            self._connection.execute(f'create schema "{self.scope}"'.encode())
            self._connection.execute(
                f'create table "{self.scope}".items (id int primary key, seq int)'.encode()
            )

    def _make(self, changes: list[Change]) -> None:
        table = f'"{self.scope}".items'
        statements = {
            "c": f"insert into {table} (id, seq) values (%(key)s, %(seq)s)",
            "u": f"update {table} set seq = %(seq)s where id = %(key)s",
            "d": f"delete from {table} where id = %(key)s",
        }
        for change in changes:
            values = {"key": change.key, "seq": change.seq}
            self._connection.execute(statements[change.op].encode(), values)

    def _say(self) -> None:
        """Write a logical message of no transaction: an event even if this is rolled back."""
        self.said.append(len(self.said) + 1)
        self._connection.execute(
            "select pg_logical_emit_message(false, %s, %s::text)", (self.scope, self.said[-1])
        )

    def commit(self, changes: list[Change]) -> None:
        with self._connection.transaction():
            self._make(changes)
            self._say()

    def insert_at_once(self, count: int) -> None:
        with self._connection.transaction():
            table = f'"{self.scope}".items'
            statement = f"insert into {table} select n, n from generate_series(1, {count}) n"
            self._connection.execute(statement.encode())

    def roll_back(self, changes: list[Change]) -> None:
        with self._connection.transaction() as transaction:
            self._make(changes)
            self._say()
            raise psycopg.Rollback(transaction)

    def close(self) -> None:
        self._connection.close()
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots "
                "where slot_name = %s and active",
                (self.scope,),
            )
            connection.execute(f'drop schema if exists "{self.scope}" cascade'.encode())
            connection.execute(f'drop publication if exists "{self.scope}"'.encode())
            connection.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots "
                "where slot_name = %s and not active",
                (self.scope,),
            )

    def change(self, body: Json) -> Change:
        row = body["before"] if body["op"] == "d" else body["after"]
        return Change(row["id"], body["op"], None if body["op"] == "d" else row["seq"])


class Mongo(Database):
    kind = "mongo"

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.address = uri
        self._client = MongoClient[Json](uri)
        self._items = self._client[self.scope]["items"]

    def prepare(self) -> None:
        self._client[self.scope].create_collection(
            "items", changeStreamPreAndPostImages={"enabled": True}
        )

    def _make(self, changes: list[Change], session: ClientSession | None) -> None:
        for change in changes:
            key = {"_id": change.key}
            match change.op:
                case "c":
                    self._items.insert_one(key | {"seq": change.seq}, session=session)
                case "u":
                    self._items.update_one(key, {"$set": {"seq": change.seq}}, session=session)
                case _:
                    self._items.delete_one(key, session=session)

    def commit(self, changes: list[Change]) -> None:
        if len(changes) == 1:
            self._make(changes, None)
            return
        with self._client.start_session() as session, session.start_transaction():
            self._make(changes, session)

    def roll_back(self, changes: list[Change]) -> None:
        with self._client.start_session() as session:
            session.start_transaction()
            self._make(changes, session)
            session.abort_transaction()

    def close(self) -> None:
        self._client.drop_database(self.scope)
        self._client.close()

    def change(self, body: Json) -> Change:
        row = body["before"] if body["op"] == "d" else body["after"]
        return Change(row["_id"], body["op"], None if body["op"] == "d" else row["seq"])


class Writer(threading.Thread):
    """Writes without pause until told to stop; `committed` is what was committed, in order."""

    def __init__(self, database: Database, seed: int) -> None:
        super().__init__(name="writer", daemon=True)
        self._database = database
        self._random = random.Random(seed)
        self._stopped = threading.Event()
        self._present: set[int] = set()
        self._seq = 0
        self.committed: list[Change] = []
        self.error: BaseException | None = None

    def stop(self) -> None:
        self._stopped.set()
        self.join(LIMIT_S)
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        try:
            # The pause leaves the machine to the others; without it the writer takes a core.
            while not self._stopped.wait(self._random.uniform(0, 0.006)):
                self._write()
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self.error = error

    def _write(self) -> None:
        size = self._random.choices([1, self._random.randint(2, 6), 300], [50, 49, 1])[0]
        present = set(self._present)
        changes = [self._change(present) for _ in range(size)]
        if size > 1 and self._random.random() < 0.1:
            self._database.roll_back(changes)
            return
        self._database.commit(changes)
        self.committed += changes
        self._present = present

    def _change(self, present: set[int]) -> Change:
        key = self._random.randrange(KEYS)
        self._seq += 1
        if key not in present:
            present.add(key)
            return Change(key, "c", self._seq)
        if self._random.random() < 0.15:
            present.discard(key)
            return Change(key, "d", None)
        return Change(key, "u", self._seq)


def by_key(changes: list[Change]) -> dict[int, list[Change]]:
    """Changes of each key in their order; keys have a partition each, so reading keeps it."""
    found: defaultdict[int, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.key].append(change)
    return dict(found)
