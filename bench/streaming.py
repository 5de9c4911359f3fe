"""`make bench-streaming`: one large transaction, whole at its commit or streamed in progress.

For each mode: the seconds from the commit to the last record, as a read_committed consumer sees
it, and the CPU seconds of the server's walsender and of capture over the whole; then the same
for a transaction that is rolled back. ROWS=100000 makes it shorter.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

from bench.capture import Topic
from bench.capture_backlog import backlogs
from bench.capture_contestants import process, rowcast_command
from infra import artifacts
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import free_ports, running

ROWS = int(os.environ.get("ROWS", "1000000"))
_LIMIT_S = 1_800.0
_LOOK_S = 0.02


def main() -> None:
    """Run both modes and print a line each."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port, controller, pg_port = free_ports(3)
        kafka = EmbeddedKafka(folder / "kafka", port, controller, folder / "kafka.log", 1024)
        postgres = EmbeddedPostgres(
            *(folder / "postgres", pg_port, folder / "postgres.log", "owner", "listener"),
            databases=("bench",),
            settings=(("max_wal_size", "8GB"), ("synchronous_commit", "on")),
        )
        sys.stdout.write(f"{ROWS:,} rows    commit to last record   server CPU s   capture CPU s\n")
        with running(kafka), running(postgres):
            for mode in ("off", "on"):
                _measure(kafka.bootstrap, postgres.dsn("bench"), folder, mode)


def _measure(bootstrap: str, dsn: str, folder: Path, mode: str) -> None:
    narrow = backlogs()[0]
    source, log = f"bench_{mode}", folder / f"{mode}.log"
    topic = Topic(bootstrap, f"{source}.public.{narrow.table}")
    command = rowcast_command(bootstrap, dsn, source, narrow.table)
    if mode == "on":
        command.append(str(folder / "spill"))
    with psycopg.connect(dsn) as writer, psycopg.connect(dsn, autocommit=True) as admin:
        writer.execute(f"drop table if exists {narrow.table}".encode())
        writer.execute(narrow.create.encode())
        writer.execute(f"create publication {source} for table {narrow.table}".encode())
        writer.commit()
        change = narrow.change.format(table=narrow.table, first=1, last=ROWS)
        with process(command, log, {"PYTHONPATH": str(artifacts.PROJECT)}) as capture:
            while "ready" not in log.read_text():
                time.sleep(_LOOK_S)
            row = admin.execute("select active_pid from pg_replication_slots").fetchone()
            server = psutil.Process(int(row[0]) if row else 0)
            for end in ("commit", "rollback"):
                cpu_s = (_cpu_s(server), _cpu_s(capture))
                if end == "rollback":
                    change = narrow.change.format(
                        table=narrow.table, first=ROWS + 2, last=2 * ROWS + 1
                    )
                writer.execute(change.encode())
                begun_s = time.monotonic()
                wanted = topic.count() + (ROWS if end == "commit" else 1)
                writer.execute(end.encode())
                if end == "rollback":
                    # What tells that the server has come past it.
                    after = narrow.change.format(table=narrow.table, first=ROWS + 1, last=ROWS + 1)
                    admin.execute(after.encode())
                while topic.count() < wanted:
                    if time.monotonic() - begun_s > _LIMIT_S:
                        raise SystemExit(log.read_text()[-2_000:])
                    time.sleep(_LOOK_S)
                took_s = time.monotonic() - begun_s
                spent = (_cpu_s(server) - cpu_s[0], _cpu_s(capture) - cpu_s[1])
                sys.stdout.write(
                    f"streaming {mode:<4} {end:<9} {took_s:>12.1f} s"
                    f" {spent[0]:>14.1f} {spent[1]:>15.1f}\n"
                )
                sys.stdout.flush()
        admin.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
    topic.close()


def _cpu_s(running_process: psutil.Process) -> float:
    usage = running_process.cpu_times()
    return usage.user + usage.system


if __name__ == "__main__":
    main()
