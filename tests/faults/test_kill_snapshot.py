"""Capture killed at random moments while it loads a table that is changed all the time."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka import ConsumerRecord
from psycopg.conninfo import make_conninfo

from cdc.snapshot_state import SnapshotStates, TableSnapshot
from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster
from events.topic import Topics
from tests.cdc.storm import storm
from tests.faults.load import LIMIT_S, Postgres
from tests.faults.processes import ServiceProcess, assert_verified, capture_process, read_stable

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = int(os.environ.get("KILLS", "10"))
ROWS = 20_000


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[Postgres]:
    made = Postgres(postgres_dsn)
    yield made
    made.close()


class Topic:
    """What stands on Kafka for one source."""

    def __init__(self, cluster: Cluster, source: str, scope: str) -> None:
        self.cluster, self.source, self.scope = cluster, source, scope
        self.name = f"{source}.{scope}.items"

    def make(self) -> None:
        async def make() -> None:
            await ensure_own_topics(self.cluster)
            await ensure_topics(self.cluster, [self.name])

        asyncio.run(make())

    def records(self) -> list[ConsumerRecord]:
        return asyncio.run(read_stable(self.cluster, self.name))

    def snapshot(self) -> TableSnapshot | None:
        states = SnapshotStates(self.source)
        for record in asyncio.run(read_stable(self.cluster, self.cluster.topics.snapshots)):
            states.take(record.key or b"", record.value)
        return states.tables.get((self.scope, "items"))

    def rows(self) -> dict[int, str]:
        rows: dict[int, str] = {}
        for record in self.records():
            body = json.loads(record.value or b"")
            key = json.loads(record.key or b"")["id"]
            rows.pop(key, None)
            if body["after"] is not None:
                rows[key] = body["after"]["seq"]
        return rows


def test_a_snapshot_killed_again_and_again_in_a_storm_goes_on_and_tells_each_row_once(
    database: Postgres, kafka_bootstrap: str, tmp_path: Path
) -> None:
    seed = int(os.environ.get("ROWCAST_FAULT_SEED", "0")) or random.randrange(1, 2**32)
    print(f"ROWCAST_FAULT_SEED={seed}")
    moments = random.Random(seed)
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    topic = Topic(cluster, source, database.scope)
    topic.make()
    dsn = make_conninfo(database.address, options=f"-c search_path={database.scope}")
    with psycopg.connect(dsn) as connection:
        connection.execute(f'create schema "{database.scope}"'.encode())
        connection.execute("create table items (id int primary key, seq text)")
        connection.execute(
            "insert into items select n, 'first' from generate_series(1, %s) n", (ROWS,)
        )
    log = tmp_path / "capture.log"
    capture = capture_process(database, cluster, source, log, "--chunk-rows", "10")
    seen: list[TableSnapshot] = []
    with capture.started() as process:
        # From here on all changes are captured.
        capture.wait_until_ready(process)
    first = topic.snapshot()
    assert first is not None
    seen.append(first)
    with storm(dsn, writers=3, keys=ROWS, pause_s=0.03) as writers:
        for _ in range(KILLS):
            kill_once(capture, topic, moments, seen)
        with capture.started() as process:
            capture.wait_until_ready(process)
            until(lambda: (topic.snapshot() or first).state == "finished")
            for writer in writers:
                writer.stop()
            with psycopg.connect(dsn) as connection:
                wanted = dict(connection.execute("select id, seq from items").fetchall())
            until(lambda: topic.rows() == wanted)
            assert_verified(database, cluster, source)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
    last = topic.snapshot()
    assert last is not None
    assert {one.snapshot for one in seen} == {last.snapshot}, "it began anew"
    done = [one.rows for one in seen]
    assert done == sorted(done)
    bodies: list[dict[str, Any]] = [json.loads(record.value or b"") for record in topic.records()]  # pyright: ignore[reportExplicitAny] - decoded JSON
    assert len({body["id"] for body in bodies}) == len(bodies)
    told = Counter(body["after"]["seq"] for body in bodies if body["op"] in "cu")
    assert told == Counter(mark for writer in writers for mark in writer.committed)
    reads = sum(body["op"] == "r" for body in bodies)
    print(
        f"{KILLS} kills, after them {done} of {last.rows} rows, {reads} told, {len(told)} changes"
    )
    assert sum(0 < rows < last.rows for rows in done) > KILLS // 4, "it was not killed half-way"


def kill_once(
    capture: ServiceProcess, topic: Topic, moments: random.Random, seen: list[TableSnapshot]
) -> None:
    """Start it and kill it, mostly after it has gone on a little; notes how far it was."""
    before = seen[-1]
    with capture.started() as process:
        if moments.random() < 0.7 and before.state != "finished":
            capture.wait_until_ready(process)
            until(lambda: topic.snapshot() != before)
            time.sleep(moments.uniform(0, 0.1))
        else:
            time.sleep(moments.uniform(0, 1.5))
        assert process.poll() is None, "it ended by itself"
        process.send_signal(signal.SIGKILL)
    seen.append(topic.snapshot() or before)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
