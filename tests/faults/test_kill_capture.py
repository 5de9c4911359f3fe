"""Capture killed at random moments under load: every committed change once, in order per key."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from pymongo import MongoClient
from pymongo.client_session import ClientSession

from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster
from events.topic import Topics
from infra.process import launch_prefix

pytestmark = [pytest.mark.faults, pytest.mark.integration]

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - JSON taken apart by assertions
KILLS = 30
KEYS = 40
LIMIT_S = 90.0
SCRIPT = Path(__file__).with_name("capture_process.py")


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

    def commit(self, changes: list[Change]) -> None:
        with self._connection.transaction():
            self._make(changes)

    def roll_back(self, changes: list[Change]) -> None:
        with self._connection.transaction() as transaction:
            self._make(changes)
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


class CaptureProcess:
    """Captures, one after the other, of one source."""

    def __init__(self, database: Database, cluster: Cluster, source: str, log: Path) -> None:
        self._command = (
            *launch_prefix(),
            *(sys.executable, str(SCRIPT), database.kind, cluster.bootstrap),
            *(cluster.topics.prefix, source, database.address, database.scope),
        )
        self._log = log

    @contextmanager
    def started(self) -> Generator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
        with (
            self._log.open("ab") as log,
            subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, env=environment
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == b"ready\n", f"capture ended: {self._log.read_text()[-3_000:]}"


async def read_all(cluster: Cluster, topic: str, count: int) -> list[Json]:
    """What read_committed sees, until there are so many and, for 2 s, no more."""
    found: list[Json] = []
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    ) as consumer:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            batches = await consumer.getmany(timeout_ms=2_000)
            if not batches and len(found) >= count:
                break
            for records in batches.values():
                found += [json.loads(record.value) for record in records if record.value]
    return found


@pytest.fixture
def postgres_database(postgres_dsn: str) -> Iterator[Postgres]:
    database = Postgres(postgres_dsn)
    yield database
    database.close()


@pytest.fixture
def mongo_database(mongo_uri: str) -> Iterator[Mongo]:
    database = Mongo(mongo_uri)
    yield database
    database.close()


@pytest.mark.parametrize("kind", ["postgres_database", "mongo_database"])
def test_a_capture_killed_thirty_times_publishes_every_change_once_and_in_order(
    kind: str, kafka_bootstrap: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(kind)
    seed = int(os.environ.get("ROWCAST_FAULT_SEED", "0")) or random.randrange(1, 2**32)
    print(f"ROWCAST_FAULT_SEED={seed}")
    moments = random.Random(seed)
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    topic = database.topic(source)

    async def make_topics() -> None:
        await ensure_own_topics(cluster)
        await ensure_topics(cluster, [topic])

    asyncio.run(make_topics())
    database.prepare()
    capture = CaptureProcess(database, cluster, source, tmp_path / "capture.log")
    with capture.started() as process:
        # The first start decides from where on changes are captured.
        capture.wait_until_ready(process)
    writer = Writer(database, seed)
    writer.start()
    for _ in range(KILLS):
        with capture.started() as process:
            if moments.random() < 0.8:
                capture.wait_until_ready(process)
                time.sleep(moments.uniform(0.1, 1.5))
            else:
                time.sleep(moments.uniform(0.1, 1.0))
            assert process.poll() is None, f"it ended by itself: {tmp_path / 'capture.log'}"
            process.send_signal(signal.SIGKILL)
    writer.stop()
    committed = writer.committed
    with capture.started() as process:
        capture.wait_until_ready(process)
        bodies = asyncio.run(read_all(cluster, topic, len(committed)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    published = [database.change(body) for body in bodies]
    print(f"{len(committed)} changes committed, {len(published)} published, {KILLS} kills")
    assert len(committed) > KILLS * 10
    assert len({body["id"] for body in bodies}) == len(bodies)
    assert Counter(published) == Counter(committed)
    assert by_key(published) == by_key(committed)


def by_key(changes: list[Change]) -> dict[int, list[Change]]:
    """Changes of each key in their order; keys have a partition each, so reading keeps it."""
    found: defaultdict[int, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.key].append(change)
    return dict(found)
