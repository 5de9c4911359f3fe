"""Capture killed at random moments under load: every committed change once, in order per key."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster
from events.topic import Topics
from tests.faults.load import LIMIT_S, Database, Mongo, Postgres, Writer, by_key
from tests.faults.processes import assert_verified, capture_process, committed_records, read_all

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = int(os.environ.get("KILLS", "12"))
LARGE = 300_000


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
def test_a_capture_killed_again_and_again_publishes_every_change_once_and_in_order(
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
    capture = capture_process(database, cluster, source, tmp_path / "capture.log")
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
        if isinstance(database, Postgres):
            assert_verified(database, cluster, source)
            _check_messages(database, cluster, source)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    published = [database.change(body) for body in bodies]
    print(f"{len(committed)} changes committed, {len(published)} published, {KILLS} kills")
    assert len(committed) > KILLS * 10
    assert len({body["id"] for body in bodies}) == len(bodies)
    assert Counter(published) == Counter(committed)
    assert by_key(published) == by_key(committed)


def _check_messages(database: Postgres, cluster: Cluster, source: str) -> None:
    """Each message of no transaction is there once, in order; other writers have other prefixes."""
    heard = asyncio.run(read_all(cluster, f"{source}.messages", len(database.said)))
    mine = [body["data"] for body in heard if body["prefix"] == database.scope]
    assert mine == database.said
    assert len({body["id"] for body in heard}) == len(heard)


def test_a_transaction_of_many_groups_survives_kills_in_its_midst_in_bounded_memory(
    postgres_database: Postgres, kafka_bootstrap: str, tmp_path: Path
) -> None:
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    topic = postgres_database.topic(source)

    async def make_topics() -> None:
        await ensure_own_topics(cluster)
        await ensure_topics(cluster, [topic])

    asyncio.run(make_topics())
    postgres_database.prepare()
    capture = capture_process(postgres_database, cluster, source, tmp_path / "capture.log")
    with capture.started() as process:
        capture.wait_until_ready(process)
    postgres_database.insert_at_once(LARGE)
    largest_bytes = 0
    for published in (1, LARGE // 3, LARGE // 3 * 2):
        with capture.started() as process:
            capture.wait_until_ready(process)
            while asyncio.run(committed_records(cluster, topic)) < published:
                largest_bytes = max(largest_bytes, psutil.Process(process.pid).memory_info().rss)
            process.send_signal(signal.SIGKILL)
    with capture.started() as process:
        capture.wait_until_ready(process)
        bodies = asyncio.run(read_all(cluster, topic, LARGE))
        assert_verified(postgres_database, cluster, source)
    assert len(bodies) == LARGE
    assert {body["transaction"]["total_order"] for body in bodies} == set(range(1, LARGE + 1))
    assert len({body["transaction"]["id"] for body in bodies}) == 1
    print(f"{largest_bytes >> 20} MiB at most")
    assert largest_bytes < 250 << 20
