"""`make bench-capture`: Rowcast, Debezium and pg_recvlogical drain the same backlogs, in one run.

Prints one table: rows a second over the whole and over the second half, MB a second of what the
server decodes, CPU seconds and resident memory. The whole includes each contestant's own start.
ROWS=200000 makes it shorter. docs/benchmarks.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.capture_backlog import Backlog, backlogs, write_changes
from bench.capture_contestants import (
    Drain,
    debezium_command,
    make_slot,
    process,
    recvlogical_command,
    rowcast_command,
    watch,
    write_debezium_settings,
)
from bench.servers import bench_servers
from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import free_ports, running

ROWS = int(os.environ.get("ROWS", "1000000"))
PARTITIONS = 4
_WARM_UP_TRANSACTIONS = 20
_WARM_UP_RECORDS = 10_000


class Topic:
    """One topic: how many records it holds, as a read_committed consumer sees it."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
        self._loop.run_until_complete(self._open(bootstrap, name))

    def count(self) -> int:
        """Records, the markers of transactions (a few hundred in a million) included."""
        ends = self._loop.run_until_complete(self._consumer.end_offsets(self._partitions))
        return sum(ends.values())

    def close(self) -> None:
        """Disconnect."""
        self._loop.run_until_complete(self._consumer.stop())
        self._loop.close()

    async def _open(self, bootstrap: str, name: str) -> None:
        await make_topic(bootstrap, name)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed"
        )
        await self._consumer.start()


async def make_topic(bootstrap: str, name: str) -> None:
    """Make an empty topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    await admin.close()


class Bench:
    """The servers, and one backlog after the other."""

    def __init__(self, bootstrap: str, postgres: EmbeddedPostgres, folder: Path) -> None:
        self._bootstrap = bootstrap
        self._dsn = postgres.dsn("bench")
        self._folder = folder

    def decoded_mb(self, backlog: Backlog) -> float:
        """What the server has decoded for a slot of the backlog, the same for all three."""
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute(
                "select total_bytes from pg_stat_replication_slots where slot_name = %s",
                (f"recvlogical_{backlog.table}",),
            ).fetchone()
        return row[0] / 1e6 if row else 0.0

    def run(self, backlog: Backlog) -> list[tuple[str, Drain]]:
        """Write the backlog behind all three slots, then let each drain it."""
        source = f"bench_{backlog.table}"
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(backlog.create.encode())
            if backlog.prepare:
                write_changes(self._dsn, backlog, backlog.prepare, ROWS)
            connection.execute(f"create publication {source} for table {backlog.table}".encode())
        topic = Topic(self._bootstrap, f"{source}.public.{backlog.table}")
        rival_topic = Topic(self._bootstrap, f"debezium.public.{backlog.table}")
        command = rowcast_command(self._bootstrap, self._dsn, source, backlog.table)
        self._begin_rowcast(command)
        for slot in (f"debezium_{backlog.table}", f"recvlogical_{backlog.table}"):
            make_slot(self._dsn, slot)
        write_changes(self._dsn, backlog, backlog.change, ROWS)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            # So that the last change lies before a position that every slot can confirm.
            row = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
            connection.execute("select pg_logical_emit_message(false, 'bench', 'end')")
        end = str(row[0]) if row else ""
        log = self._folder / f"{source}.log"
        drains = [("Rowcast", self._drain(command, log, topic.count))]
        write_debezium_settings(
            self._folder,
            self._bootstrap,
            self._dsn,
            {"TABLE": backlog.table, "SOURCE": source, "REST": str(free_ports(1)[0])},
        )
        jars = artifacts.build_directory() / "debezium"
        rival = debezium_command(self._folder, jars)
        drains.append(("Debezium", self._drain(rival, log, rival_topic.count)))
        plain = recvlogical_command(self._dsn, backlog.table, source, end)
        drains.append(("pg_recvlogical", self._drain(plain, log, lambda: 0, ends_itself=True)))
        topic.close()
        rival_topic.close()
        return drains

    def _drain(
        self, command: list[str], log: Path, count: Callable[[], int], *, ends_itself: bool = False
    ) -> Drain:
        with process(command, log, {"PYTHONPATH": str(artifacts.PROJECT)}) as running_process:
            return watch(running_process, count, ROWS, log, ends_itself=ends_itself)

    def _begin_rowcast(self, command: list[str]) -> None:
        """Let capture make its slot and its first progress, then stop it."""
        log = self._folder / "begin.log"
        log.unlink(missing_ok=True)
        with process(command, log, {"PYTHONPATH": str(artifacts.PROJECT)}) as begun:
            while "ready" not in log.read_text():
                if not begun.is_running():
                    raise SystemExit(log.read_text())


async def warm_up(bootstrap: str) -> None:
    """Let the broker compile itself, which the first contestant would pay for alone."""
    await make_topic(bootstrap, "warm-up")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="warm-up")
    await producer.start()
    for _ in range(_WARM_UP_TRANSACTIONS):
        await producer.begin_transaction()
        for _ in range(_WARM_UP_RECORDS):
            await producer.send("warm-up", b"x" * 400)
        await producer.commit_transaction()
    await producer.stop()


def main() -> None:
    """Start the servers, run every backlog, print the table."""
    with bench_servers() as (folder, kafka, postgres), running(kafka), running(postgres):
        asyncio.run(warm_up(kafka.bootstrap))
        bench = Bench(kafka.bootstrap, postgres, folder)
        sys.stdout.write(
            f"{ROWS:,} rows, {'rows/s':>22} {'second half':>12} {'MB/s':>7} {'CPU s':>7}"
            f" {'RSS MiB':>8}\n"
        )
        for backlog in backlogs():
            sys.stdout.write(f"{backlog.name}\n")
            drains = bench.run(backlog)
            backlog_mb = bench.decoded_mb(backlog)
            for contestant, drain in drains:
                half = drain.second_half_rows_per_s
                shown = f"{half:>12,.0f}" if half else f"{'':>12}"
                sys.stdout.write(
                    f"  {contestant:<20} {drain.rows_per_s:>14,.0f} {shown} "
                    f"{backlog_mb / drain.whole_s:>7.1f} {drain.cpu_s:>7.1f} "
                    f"{drain.rss_mib:>8.0f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
