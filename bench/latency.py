"""`make bench-latency`: from the commit of a row to a read_committed consumer, beside Debezium.

Rows come one a transaction at a steady rate, with synchronous_commit on, and bear the server's
clock; a consumer compares it with its own, on the same machine, when the record is there.
Rowcast writes exactly once. Debezium, at least once, is tuned for latency (poll.interval.ms 5,
linger 0). Each round gives both the same load, one after the other. SECONDS_EACH, RATES and
ROUNDS change it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.capture import PARTITIONS, make_topic
from bench.capture_contestants import (
    BENCH,
    debezium_command,
    make_slot,
    process,
    rowcast_command,
    write_debezium_settings,
)
from infra import artifacts
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import free_ports, running

SECONDS = float(os.environ.get("SECONDS_EACH", "15"))
RATES = [int(rate) for rate in os.environ.get("RATES", "200,1000").split(",")]
ROUNDS = int(os.environ.get("ROUNDS", "2"))
_WARM_S = 5.0
_QUIET_S = 3.0


class Latencies:
    """What a consumer of one topic saw."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic

    async def open(self) -> None:
        """Make the topic and stand at its end."""
        await make_topic(self._bootstrap, self._topic)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            fetch_min_bytes=1,
            auto_offset_reset="latest",
        )
        await self._consumer.start()
        partitions = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)

    async def measure_ms(self, command: list[str]) -> list[float]:
        """Latencies of the rows that a load writes, until no more come."""
        load = await asyncio.create_subprocess_exec(*command)
        latencies_ms: list[float] = []
        quiet_since = time.monotonic()
        while load.returncode is None or time.monotonic() - quiet_since < _QUIET_S:
            batches = await self._consumer.getmany(timeout_ms=200)
            now = time.time()
            for records in batches.values():
                for record in records:
                    row = json.loads(record.value or b"{}").get("after")
                    if row is not None:
                        written = datetime.fromisoformat(row["at"]).timestamp()
                        latencies_ms.append((now - written) * 1_000)
            if batches:
                quiet_since = time.monotonic()
        return latencies_ms

    async def close(self) -> None:
        """Disconnect."""
        await self._consumer.stop()


def line(contestant: str, rate: int, latencies_ms: list[float]) -> str:
    """One line of the table; rows that never came are told."""
    expected = int(SECONDS * rate)
    ordered = sorted(latencies_ms)
    p50, p90, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.9, 0.99))
    lost = "" if len(ordered) == expected else f"  {len(ordered)} records of {expected} rows"
    return (
        f"{contestant:<10} {rate:>7} {p50:>8.1f} {p90:>8.1f} {p99:>8.1f} {ordered[-1]:>8.1f}{lost}"
    )


async def contest(
    name: str, command: list[str], log: Path, latencies: Latencies, table: str, dsn: str
) -> None:
    """One contestant under each load, after it was warmed up."""
    with process(command, log, {"PYTHONPATH": str(artifacts.PROJECT)}):
        while not await _measure(latencies, dsn, table, RATES[-1], _WARM_S):
            pass
        for rate in RATES:
            found = await _measure(latencies, dsn, table, rate, SECONDS)
            print(line(name, rate, found), flush=True)


async def _measure(
    latencies: Latencies, dsn: str, table: str, rate: int, seconds: float
) -> list[float]:
    script = str(BENCH / "latency_load.py")
    load = [sys.executable, script, dsn, table, str(rate), str(seconds)]
    found = await latencies.measure_ms(load)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"truncate {table}".encode())
    return found


async def run(kafka: EmbeddedKafka, postgres: EmbeddedPostgres, folder: Path) -> None:
    """Each contestant has a table, a slot and a topic of its own in each round."""
    dsn = postgres.dsn("bench")
    print(f"{'':<10} {'rows/s':>7} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for round_number in range(ROUNDS):
        for name in ("Rowcast", "Debezium"):
            table = f"{name.lower()}_{round_number}"
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(
                    f"create table {table} (id bigint, at timestamptz, note text)".encode()
                )
                connection.execute(f"alter table {table} add primary key (id)".encode())
                connection.execute(f"create publication {table} for table {table}".encode())
            prefix = table if name == "Rowcast" else "debezium"
            latencies = Latencies(kafka.bootstrap, f"{prefix}.public.{table}")
            await latencies.open()
            if name == "Rowcast":
                command = rowcast_command(kafka.bootstrap, dsn, table, table)
            else:
                make_slot(dsn, f"debezium_{table}")
                settings = {"TABLE": table, "SOURCE": table, "REST": str(free_ports(1)[0])}
                write_debezium_settings(folder, kafka.bootstrap, dsn, settings)
                for file, old, new in (
                    ("connector.properties", "poll.interval.ms=50", "poll.interval.ms=5"),
                    ("worker.properties", "producer.linger.ms=20", "producer.linger.ms=0"),
                ):
                    path = folder / file
                    path.write_text(path.read_text().replace(old, new))
                command = debezium_command(folder, artifacts.build_directory() / "debezium")
            await contest(name, command, folder / f"{table}.log", latencies, table, dsn)
            await latencies.close()


def main() -> None:
    """Start the servers, then the rounds."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port, controller, pg_port = free_ports(3)
        kafka = EmbeddedKafka(folder / "kafka", port, controller, folder / "kafka.log", 1024)
        postgres = EmbeddedPostgres(
            *(folder / "postgres", pg_port, folder / "postgres.log", "owner", "listener"),
            databases=("bench",),
            settings=(("synchronous_commit", "on"),),
        )
        with running(kafka), running(postgres):
            asyncio.run(run(kafka, postgres, folder))


if __name__ == "__main__":
    main()
