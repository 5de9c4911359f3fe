"""Reads of a table that is audited by row and by statement, while capture and server are killed."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cdc.postgres_source import PostgresSource, connect
from cdc.read_policy import enable_row_audit
from cdc.statement_audit import enable_statement_audit
from events.cluster import Cluster
from events.topic import Topics, reads_topic
from tests.audited_postgres import audited_postgres
from tests.faults.load import LIMIT_S, Json
from tests.faults.processes import ServiceProcess, read_all
from tests.faults.servers import KillableServer, kept_running

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = 3
ROWS = 100_000


@pytest.fixture
def server(servers_folder: Path) -> Iterator[tuple[KillableServer, str]]:
    embedded = audited_postgres(servers_folder / "postgres-killed-reads")
    server = KillableServer(embedded)
    try:
        server.start()
        yield server, embedded.dsn("shop")
    finally:
        server.close()


class Reader(threading.Thread):
    """Reads one row after the other by its key, each once; notes when its answer came."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn = dsn
        self._stopped = threading.Event()
        self.answered: dict[int, float] = {}
        self.asked = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as client:
                    self._read(client)
            except psycopg.OperationalError:
                self._stopped.wait(0.05)

    def _read(self, client: psycopg.Connection) -> None:
        while not self._stopped.wait(0.003):
            self.asked += 1
            number = self.asked
            # The alias is what tells one statement from another where literals are not told.
            statement = f"select id as n{number} from patients where id = {number}"
            assert client.execute(statement.encode()).fetchone() == (number,)
            self.answered[number] = time.monotonic()

    def stop(self) -> None:
        self._stopped.set()
        self.join(LIMIT_S)


async def prepare(source: PostgresSource) -> None:
    connection = await connect(source)
    async with connection:
        await connection.execute("create table patients (id int primary key)")
        await connection.execute(
            f"insert into patients select * from generate_series(1, {ROWS})".encode()
        )
        await connection.execute("create role nurse login password 'x'")
        await connection.execute("grant select on patients to nurse")
        await enable_row_audit(connection, source, "public", "patients", force=True)
        await enable_statement_audit(connection, source, "public", "patients")


def test_every_read_is_told_once_by_row_and_by_statement_though_all_are_killed(
    server: tuple[KillableServer, str], kafka_bootstrap: str, tmp_path: Path
) -> None:
    postgres, dsn = server
    seed = random.randrange(1, 2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    name = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (name,))
    asyncio.run(prepare(PostgresSource(name, dsn, name, name)))
    capture = ServiceProcess(
        tmp_path / "capture.log",
        *("capture_process.py", "postgres", cluster.bootstrap, cluster.topics.prefix),
        *(name, dsn, "public", "--reads"),
    )
    reader = Reader(make_conninfo(dsn, user="nurse", password="x"))
    with kept_running(capture) as kept:
        reader.start()
        for _ in range(KILLS):
            assert kept.ready.wait(LIMIT_S)
            time.sleep(moments.uniform(0.0, 0.8))
            kept.kill()
            time.sleep(0.3)
        time.sleep(0.7)
        before = time.monotonic()
        postgres.signal(signal.SIGKILL)
        after = time.monotonic()
        postgres.start()
        time.sleep(0.7)
        kept.kill()
        time.sleep(0.7)
        reader.stop()
        # What a crash of the server takes with it is what it had not flushed yet.
        sure = {number for number, at in reader.answered.items() if not before - 1 < at < after}
        topic = reads_topic(name, "public", "patients")
        found = asyncio.run(read_all(cluster, topic, 2 * len(sure)))
    by_row = Counter(body["key"]["id"] for body in found if body["read"]["by"] == "policy")
    by_statement = Counter(map(_number, [one for one in found if one["read"]["by"] == "pgaudit"]))
    print(f"{len(reader.answered)} reads, {len(by_row)} by row, {len(by_statement)} by statement")
    assert len(sure) > 100
    for told in (by_row, by_statement):
        assert set(told.values()) == {1}
        assert sure <= told.keys() <= set(range(1, reader.asked + 1))


def _number(event: Json) -> int:
    return int(event["statement"]["text"].split()[3].removeprefix("n"))
