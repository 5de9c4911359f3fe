"""Kafka killed or stopped under capture and router: each may end and be started again, and every
committed change is there once, with one emission of the listener for it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster
from events.kept_definition import definition_record_key
from events.topic import Topics
from infra.embedded.kafka import EmbeddedKafka
from router.definition import Definition, ListenerCode
from rowcast.kafka_access import write_record
from tests.faults.load import Postgres, Writer, by_key
from tests.faults.processes import ServiceProcess, assert_verified, capture_process, read_all
from tests.faults.servers import KillableServer, kept_running
from tests.port_base import free_ports

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = 4


class Broker(KillableServer):
    """A Kafka of a test's own."""

    def __init__(self, folder: Path) -> None:
        port, controller = free_ports(2)
        kafka = EmbeddedKafka(
            *(folder / "kafka", port, controller, folder / "kafka.log"), short_lived=True
        )
        super().__init__(kafka)
        self.bootstrap = kafka.bootstrap


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.close()


def test_a_kafka_killed_under_load_loses_nothing_and_repeats_nothing(
    postgres_dsn: str, broker: Broker, tmp_path: Path
) -> None:
    seed = int(os.environ.get("ROWCAST_FAULT_SEED", "0")) or random.randrange(1, 2**32)
    print(f"ROWCAST_FAULT_SEED={seed}")
    moments = random.Random(seed)
    database = Postgres(postgres_dsn)
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(broker.bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    topic = database.topic(source)

    async def prepare() -> None:
        await ensure_own_topics(cluster)
        await ensure_topics(cluster, [topic])
        # Of the table's changes; the writer's messages are events as well.
        echo = Definition("echo", f"db.{topic}.*", ListenerCode("x"), version=1)
        await write_record(
            cluster,
            cluster.topics.definitions,
            definition_record_key("listener", "echo"),
            echo.encode(),
        )

    asyncio.run(prepare())
    database.prepare()
    router = ServiceProcess(
        tmp_path / "router.log",
        "router_process.py",
        *(cluster.bootstrap, cluster.topics.prefix, source),
    )
    with ExitStack() as stack:
        stack.callback(database.close)
        capture = capture_process(database, cluster, source, tmp_path / "capture.log")
        captures = stack.enter_context(kept_running(capture))
        routers = stack.enter_context(kept_running(router))
        writer = Writer(database, seed)
        writer.start()
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.5, 3))
            broker.signal(signal.SIGKILL)
            broker.start()
        time.sleep(1)
        writer.stop()
        committed = writer.committed
        bodies = asyncio.run(read_all(cluster, topic, len(committed)))
        assert_verified(database, cluster, source)
        echoes = asyncio.run(read_all(cluster, cluster.topics.events, len(committed)))
        print(f"{len(committed)} changes, {captures.ends} and {routers.ends} ends of services")
    published = [database.change(body) for body in bodies]
    assert len({body["id"] for body in bodies}) == len(bodies)
    assert Counter(published) == Counter(committed)
    assert by_key(published) == by_key(committed)
    echoed = Counter(body["data"]["change"] for body in echoes if body["type"] == "custom.echo")
    assert set(echoed) == {body["id"] for body in bodies}
    assert set(echoed.values()) == {1}


def test_a_kafka_that_hangs_does_not_make_the_source_give_up_on_us(
    postgres_dsn: str, broker: Broker, tmp_path: Path
) -> None:
    database = Postgres(postgres_dsn)
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(broker.bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    topic = database.topic(source)
    database.prepare()
    with ExitStack() as stack:
        stack.callback(database.close)
        admin = stack.enter_context(psycopg.connect(postgres_dsn, autocommit=True))
        # A user who captures with a role of their own may have set it so.
        admin.execute("alter role current_user set wal_sender_timeout = '2s'")
        stack.callback(admin.execute, "alter role current_user reset wal_sender_timeout")
        capture = capture_process(database, cluster, source, tmp_path / "capture.log")
        process = stack.enter_context(capture.started())
        capture.wait_until_ready(process)
        writer = Writer(database, 1)
        writer.start()
        broker.signal(signal.SIGSTOP)
        # Three times the server's patience, far less than the producer's.
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(6)
        broker.signal(signal.SIGCONT)
        writer.stop()
        bodies = asyncio.run(read_all(cluster, topic, len(writer.committed)))
        assert_verified(database, cluster, source)
        assert process.poll() is None
    assert Counter(map(database.change, bodies)) == Counter(writer.committed)
