"""Part of `make bench-reads`: what each audit of PostgreSQL's reads costs whoever reads.

pgbench's select-only run (one row by its key, prepared, one client) as a role without special
rights, and a count of many rows at once: without row security, with row security and an open
policy, audited by row, audited by statement (pgaudit's log), and by both while capture tells of
them on the same machine. Beside the rates stands what a select takes of the server's CPU, all its
processes together. The best of several rounds counts, all in one run, on Debian's PostgreSQL 15.
SECONDS_EACH changes how long. docs/read-audit.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from bench.waking import awake
from cdc.postgres_source import PostgresSource, connect
from cdc.read_policy import disable_row_audit, enable_row_audit
from cdc.statement_audit import disable_statement_audit, enable_statement_audit
from events.cluster import Cluster
from infra import artifacts
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from tests.audited_postgres import audited_postgres
from tests.conftest import running
from tests.faults.processes import ServiceProcess
from tests.port_base import free_ports

SECONDS = os.environ.get("SECONDS_EACH", "10")
ROUNDS = 3
COUNTED = 10_000
_TABLE = "pgbench_accounts"

Found = dict[str, tuple[float, float, float]]


class Bench:
    """The server, who reads from it, and what was found."""

    def __init__(self, postgres: EmbeddedPostgres, cluster: Cluster, folder: Path) -> None:
        self.dsn = postgres.dsn("shop")
        self.source = PostgresSource("bench", self.dsn, "bench", "bench")
        self.found: Found = {}
        self._reader = make_conninfo(self.dsn, user="reader", password="x")
        self._server = psutil.Process(
            int((postgres.folder / "postmaster.pid").read_text().split()[0])
        )
        self._scan = folder / "scan.sql"
        arguments = ("postgres", cluster.bootstrap, cluster.topics.prefix)
        self._capture = ServiceProcess(
            folder / "capture.log",
            *("capture_process.py", *arguments, "bench", self.dsn, "public", "--reads"),
        )

    def prepare(self) -> None:
        """Make the tables and the reader."""
        pgbench(self.dsn, "--initialize", "--quiet", "--scale=5")
        self.run(
            "create role reader login password 'x'",
            f"grant select on {_TABLE}, pgbench_branches to reader",
        )
        self._scan.write_text(f"select count(abalance) from {_TABLE} where aid <= {COUNTED};\n")

    def run(self, *statements: str) -> None:
        """As the owner."""
        with psycopg.connect(self.dsn, autocommit=True) as owner:
            for statement in statements:
                owner.execute(statement.encode())

    def measure(self, label: str) -> None:
        """One round of one line of the table."""
        rows_per_s = transactions_per_s(self._reader, self._scan) * COUNTED
        begun_s = self._cpu_s()
        selects_per_s = transactions_per_s(self._reader)
        cpu_us = (self._cpu_s() - begun_s) / (selects_per_s * float(SECONDS)) * 1e6
        before = self.found.get(label, (0.0, cpu_us, 0.0))
        self.found[label] = (
            max(before[0], selects_per_s),
            min(before[1], cpu_us),
            max(before[2], rows_per_s),
        )

    def _cpu_s(self) -> float:
        """Of all processes that there are, and of those that have ended."""
        # What has ended counts once it was waited for.
        time.sleep(0.5)
        ended = self._server.cpu_times()
        total = ended.user + ended.system + ended.children_user + ended.children_system
        for process in self._server.children():
            times = process.cpu_times()
            total += times.user + times.system
        return total

    @contextmanager
    def audited(self, *, rows: bool = False, statements: bool = False) -> Generator[None]:
        """With the table's reads told, by row or by statement."""
        asyncio.run(self._audit(rows=rows, statements=statements, on=True))
        try:
            yield
        finally:
            asyncio.run(self._audit(rows=rows, statements=statements, on=False))

    async def _audit(self, *, rows: bool, statements: bool, on: bool) -> None:
        connection = await connect(self.source)
        async with connection:
            place = (connection, self.source, "public", _TABLE)
            if rows and on:
                await enable_row_audit(*place, force=True)
            if statements and on:
                await enable_statement_audit(*place)
            if rows and not on:
                await disable_row_audit(*place)
            if statements and not on:
                await disable_statement_audit(*place, wait_s=0)

    @contextmanager
    def captured(self) -> Generator[None]:
        """With capture of slot and log in a process of its own."""
        with self._capture.started() as process:
            self._capture.wait_until_ready(process)
            yield
        self.run(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active",
            "select pg_sleep(0.2)",
        )


def pgbench(dsn: str, *arguments: str) -> str:
    """What pgbench prints."""
    command = (str(artifacts.postgres_bin() / "pgbench"), *arguments, dsn)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def transactions_per_s(dsn: str, script: Path | None = None) -> float:
    """Of pgbench's own selects, or of a script."""
    what = ("--file", str(script)) if script else ("--select-only",)
    shown = pgbench(dsn, *what, "--no-vacuum", "--protocol=prepared", f"--time={SECONDS}")
    found = re.search(r"tps = ([0-9.]+) \(without", shown)
    if found is None:
        raise SystemExit(f"pgbench said no tps: {shown}")
    return float(found[1])


def contest(bench: Bench) -> None:
    """All rounds; capture, which writes to Kafka, comes last in each."""
    bench.prepare()
    for _ in range(ROUNDS):
        bench.measure("no row security")
        bench.run(
            f"create policy open on {_TABLE} using (true)",
            f"alter table {_TABLE} enable row level security",
        )
        bench.measure("row security, an open policy")
        bench.run(
            f"drop policy open on {_TABLE}", f"alter table {_TABLE} disable row level security"
        )
        with bench.audited(rows=True):
            bench.measure("audited by row")
        with bench.audited(statements=True):
            bench.measure("audited by statement")
        with bench.captured():
            with bench.audited(rows=True):
                bench.measure("audited by row, and captured")
            with bench.audited(statements=True):
                bench.measure("audited by statement, and captured")


def main() -> None:
    """Start the servers, measure, print."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port, controller_port = free_ports(2)
        kafka = EmbeddedKafka(
            *(folder / "kafka", port, controller_port, folder / "kafka.log"), short_lived=True
        )
        postgres = audited_postgres(folder / "postgres")
        with running(postgres), running(kafka), awake():
            bench = Bench(postgres, Cluster(kafka.bootstrap), folder)
            contest(bench)
    sys.stdout.write(f"{'':<34} {'selects/s':>12} {'server us':>10} {'rows/s counted':>14}\n")
    for label, (selects_per_s, cpu_us, rows_per_s) in bench.found.items():
        sys.stdout.write(
            f"{label:<34} {selects_per_s:>12,.0f} {cpu_us:>10,.0f} {rows_per_s:>14,.0f}\n"
        )


if __name__ == "__main__":
    main()
