"""Processes that a fault test starts and kills, each a process of its own under this one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from cdc.postgres import PostgresSource
from cdc.postgres_verification import VerifyLimits, verify_postgres
from cdc.verification import Verification
from events.cluster import Cluster
from infra.process import launch_prefix
from rowcast.verify_command import verification_text
from tests.faults.load import LIMIT_S, Database, Json

FOLDER = Path(__file__).parent


class ServiceProcess:
    """A script that prints `ready` once it is, started as often as asked."""

    def __init__(self, log: Path, script: str, *arguments: str) -> None:
        self._command = (*launch_prefix(), sys.executable, str(FOLDER / script), *arguments)
        self._log = log

    @contextmanager
    def started(self) -> Generator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
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

    def said(self) -> str:
        """What its processes have logged."""
        return self._log.read_text()

    def wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == b"ready\n", f"it ended: {self._log.read_text()[-3_000:]}"


def capture_process(
    database: Database, cluster: Cluster, source: str, log: Path, *more: str
) -> ServiceProcess:
    """Capture of one source."""
    arguments = (database.kind, cluster.bootstrap, cluster.topics.prefix)
    return ServiceProcess(
        log, "capture_process.py", *arguments, source, database.address, database.scope, *more
    )


def assert_verified(database: Database, cluster: Cluster, source: str) -> Verification:
    """Compare the tables with their topics, while capture runs: all is told, nothing twice."""
    scope = database.scope
    postgres = PostgresSource(source, database.address, scope, scope, snapshot="initial")
    limits = VerifyLimits(timeout_s=LIMIT_S)
    found = asyncio.run(verify_postgres(postgres, cluster, limits=limits))
    assert found.difference_count == 0, verification_text(found, as_json=False)
    assert not found.statements
    assert not any(table.statements or table.untold for table in found.tables), found
    return found


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


async def read_stable(cluster: Cluster, topic: str) -> list[ConsumerRecord]:
    """What read_committed sees now; a transaction that a kill left open is not waited for."""
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    ) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
    return found


async def committed_records(cluster: Cluster, topic: str) -> int:
    """How far read_committed sees a topic: its records, and the markers of transactions."""
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=cluster.bootstrap, isolation_level="read_committed"
    ) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
    return sum(ends.values())
