"""`make bench-snapshot`: Rowcast and Debezium load the same tables for the first time, in one run.

Prints one table as bench/capture.py does: rows a second over the whole, each one's own start
included, and over the second half, CPU seconds and resident memory. ROWS=200000 makes it shorter.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psycopg

from bench.capture import Topic, warm_up
from bench.capture_backlog import Backlog, backlogs, write_changes
from bench.capture_contestants import (
    Drain,
    debezium_command,
    process,
    rowcast_command,
    watch,
    write_debezium_settings,
)
from bench.servers import bench_servers
from infra import artifacts
from tests.conftest import free_ports, running

ROWS = int(os.environ.get("ROWS", "1000000"))


def load(bootstrap: str, dsn: str, folder: Path, backlog: Backlog) -> list[tuple[str, Drain]]:
    """Fill a table, then let each load it."""
    source = f"bench_{backlog.table}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(backlog.create.encode())
        write_changes(dsn, backlog, backlog.change, ROWS)
        connection.execute(f"create publication {source} for table {backlog.table}".encode())
        connection.execute(f"vacuum analyze {backlog.table}".encode())
        connection.execute("checkpoint")
    topic = Topic(bootstrap, f"{source}.public.{backlog.table}")
    rival_topic = Topic(bootstrap, f"debezium.public.{backlog.table}")
    log = folder / f"{source}.log"
    write_debezium_settings(
        folder,
        bootstrap,
        dsn,
        {
            "TABLE": backlog.table,
            "SOURCE": source,
            "REST": str(free_ports(1)[0]),
            "SNAPSHOT_MODE": "initial",
        },
    )
    contestants = (
        (
            "Rowcast",
            [*rowcast_command(bootstrap, dsn, source, backlog.table), "initial"],
            topic.count,
        ),
        (
            "Debezium",
            debezium_command(folder, artifacts.build_directory() / "debezium"),
            rival_topic.count,
        ),
    )
    drains: list[tuple[str, Drain]] = []
    for name, command, count in contestants:
        with process(command, log, {"PYTHONPATH": str(artifacts.PROJECT)}) as started:
            drains.append((name, watch(started, count, ROWS, log)))
    topic.close()
    rival_topic.close()
    return drains


def main() -> None:
    """Start the servers, load every table, print what each took."""
    with bench_servers() as (folder, kafka, postgres), running(kafka), running(postgres):
        asyncio.run(warm_up(kafka.bootstrap))
        sys.stdout.write(
            f"{ROWS:,} rows loaded, {'rows/s':>15} {'second half':>12} {'CPU s':>7}"
            f" {'RSS MiB':>8}\n"
        )
        narrow, _, wide = backlogs()
        for backlog, title in ((narrow, "six columns"), (wide, "41 columns")):
            sys.stdout.write(f"{title}\n")
            dsn = postgres.dsn("bench")
            for contestant, drain in load(kafka.bootstrap, dsn, folder, backlog):
                half = drain.second_half_rows_per_s
                shown = f"{half:>12,.0f}" if half else f"{'':>12}"
                sys.stdout.write(
                    f"  {contestant:<20} {drain.rows_per_s:>14,.0f} {shown} "
                    f"{drain.cpu_s:>7.1f} {drain.rss_mib:>8.0f}\n"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
