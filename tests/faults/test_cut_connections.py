"""Connections of capture cut in the middle of a frame, and stalled: nothing comes, nothing ends."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from cdc.topic_creation import ensure_own_topics
from events.cluster import Cluster
from events.topic import Topics
from infra.embedded.kafka import EmbeddedKafka
from tests.faults.cutting_proxy import CuttingProxy
from tests.faults.load import LIMIT_S, Postgres, Writer
from tests.faults.processes import ServiceProcess, assert_verified
from tests.faults.servers import KillableServer, kept_running
from tests.port_base import free_ports

pytestmark = [pytest.mark.faults, pytest.mark.integration]

CUTS = 4
FRAMES_BYTES = 3_000


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[Postgres]:
    made = Postgres(postgres_dsn)
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def moments() -> random.Random:
    seed = int(os.environ.get("ROWCAST_FAULT_SEED", "0")) or random.randrange(1, 2**32)
    print(f"ROWCAST_FAULT_SEED={seed}")
    return random.Random(seed)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def until_streaming(database: Postgres) -> None:
    """Wait until what was committed before is on Kafka."""
    with psycopg.connect(database.address, autocommit=True) as connection:
        row = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        query = (
            "select from pg_replication_slots where slot_name = %s and confirmed_flush_lsn >= %s"
        )
        until(lambda: connection.execute(query, (database.scope, row[0])).fetchone() is not None)


def cut_and_stall(
    database: Postgres, proxy: CuttingProxy, moments: random.Random, said: Callable[[], bool]
) -> None:
    """Cut again and again, then stall until capture has `said` so."""
    for number in range(CUTS):
        time.sleep(moments.uniform(0.1, 0.6))
        proxy.cut(after_bytes=moments.randrange(1, FRAMES_BYTES))
        until(lambda number=number: proxy.cuts > number)
        until_streaming(database)
    proxy.stall()
    until(said)
    proxy.heal()


def test_connections_to_postgres_that_are_cut_or_stall_lose_nothing(
    database: Postgres, kafka_bootstrap: str, moments: random.Random, tmp_path: Path
) -> None:
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    port = int(conninfo_to_dict(database.address)["port"] or 0)
    with ExitStack() as stack:
        proxy = stack.enter_context(CuttingProxy(port).running())
        capture = ServiceProcess(
            tmp_path / "capture.log",
            "capture_process.py",
            *("postgres", kafka_bootstrap, cluster.topics.prefix, source),
            *(make_conninfo(database.address, port=proxy.port), database.scope),
            *("--source-timeout-s", "4"),
        )
        captures = stack.enter_context(kept_running(capture))
        writer = Writer(database, 1)
        writer.start()
        said = "the server has sent nothing for"
        cut_and_stall(database, proxy, moments, lambda: said in capture.said())
        writer.stop()
        found = assert_verified(database, cluster, source)
    print(f"{captures.ends} ends, {proxy.cuts} cuts, {found.tables[0].records} records")
    assert found.tables[0].records == len(writer.committed)


def test_connections_to_kafka_that_are_cut_or_stall_lose_nothing(
    database: Postgres, moments: random.Random, tmp_path: Path
) -> None:
    source = f"s{uuid.uuid4().hex[:12]}"
    port, controller = free_ports(2)
    with ExitStack() as stack:
        proxy = stack.enter_context(CuttingProxy(port).running())
        server = EmbeddedKafka(
            tmp_path / "kafka", port, controller, tmp_path / "kafka.log", advertised_port=proxy.port
        )
        broker = KillableServer(server)
        stack.callback(broker.close)
        broker.start()
        bootstrap = f"127.0.0.1:{proxy.port}"
        cluster = Cluster(bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
        asyncio.run(ensure_own_topics(cluster))
        capture = ServiceProcess(
            tmp_path / "capture.log",
            "capture_process.py",
            *("postgres", bootstrap, cluster.topics.prefix, source),
            *(database.address, database.scope, "--kafka-timeout-s", "4"),
        )
        captures = stack.enter_context(kept_running(capture))
        writer = Writer(database, 1)
        writer.start()
        said = "did not take a group of changes within 4 s"
        cut_and_stall(database, proxy, moments, lambda: said in capture.said())
        writer.stop()
        found = assert_verified(database, cluster, source)
    print(f"{captures.ends} ends, {proxy.cuts} cuts, {found.tables[0].records} records")
    assert found.tables[0].records == len(writer.committed)
