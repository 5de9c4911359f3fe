"""Who drains a backlog: Rowcast, Debezium in Kafka Connect, pg_recvlogical.

Each is a process that begins at its own slot, which was made before the backlog was written, and
is done when what it has delivered reaches the last change. Rowcast and Debezium deliver to Kafka,
where only committed records count; pg_recvlogical to /dev/null.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from infra import artifacts

_LOOK_EVERY_S = 0.05
_LIMIT_S = 600.0
BENCH = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Drain:
    """How a contestant drained a backlog; `second_half_s` is the time of its later half."""

    rows: int
    whole_s: float
    second_half_s: float | None
    cpu_s: float
    rss_mib: float

    @property
    def rows_per_s(self) -> float:
        """Over the whole."""
        return self.rows / self.whole_s

    @property
    def second_half_rows_per_s(self) -> float | None:
        """Over the second half, when everything is warm; None where it was not seen."""
        return self.rows / 2 / self.second_half_s if self.second_half_s else None


@contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str]
) -> Generator[psutil.Process]:
    """A contestant's process, ended at the end."""
    with log.open("ab") as out:
        started = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **environment}
        )
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait()


def watch(
    running: psutil.Process,
    delivered: Callable[[], int],
    rows: int,
    log: Path,
    *,
    ends_itself: bool = False,
) -> Drain:
    """Follow a contestant until it has delivered so many rows, from its start on."""
    started = time.perf_counter()
    half_s: float | None = None
    rss_bytes = 0
    cpu_s = 0.0
    while True:
        now_s = time.perf_counter() - started
        if running.status() == psutil.STATUS_ZOMBIE:
            if ends_itself:
                return Drain(rows, now_s, None, cpu_s, rss_bytes / 2**20)
            raise SystemExit(f"it ended: {log.read_text(errors='replace')[-2000:]}")
        usage = running.cpu_times()
        cpu_s = usage.user + usage.system
        rss_bytes = max(rss_bytes, running.memory_info().rss)
        count = delivered()
        now_s = time.perf_counter() - started
        if half_s is None and count >= rows / 2:
            half_s = now_s
        if count >= rows:
            return Drain(rows, now_s, now_s - (half_s or 0.0), cpu_s, rss_bytes / 2**20)
        if now_s > _LIMIT_S:
            raise SystemExit(f"it delivered {count:,} of {rows:,} rows within {_LIMIT_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)


def rowcast_command(bootstrap: str, dsn: str, source: str, table: str) -> list[str]:
    """Capture of one table, as `rowcast run cdc` does it."""
    return [sys.executable, str(BENCH / "capture_process.py"), bootstrap, dsn, source, table]


def debezium_command(folder: Path, jars: Path) -> list[str]:
    """Kafka Connect standalone with the connector."""
    heap = ("-Xms512m", "-Xmx1g", "-XX:+UseG1GC")
    arguments = (str(folder / "worker.properties"), str(folder / "connector.properties"))
    return [
        *(str(artifacts.java()), *heap, "-cp", f"{jars}/*"),
        *("org.apache.kafka.connect.cli.ConnectStandalone", *arguments),
    ]


def write_debezium_settings(
    folder: Path, bootstrap: str, dsn: str, of_backlog: dict[str, str]
) -> None:
    """The committed settings, with the addresses of this run."""
    address = conninfo_to_dict(dsn)
    values = {
        "BOOTSTRAP": bootstrap,
        "FOLDER": str(folder),
        "PG_PORT": str(address["port"]),
        "PG_USER": str(address["user"]),
        "PG_PASSWORD": str(address["password"]),
        "SNAPSHOT_MODE": "no_data",
        **of_backlog,
    }
    (folder / "connect.offsets").unlink(missing_ok=True)
    for name in ("worker.properties", "connector.properties"):
        text = (BENCH / "debezium" / name).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (folder / name).write_text(text)


def recvlogical_command(dsn: str, table: str, publication: str, end: str) -> list[str]:
    """PostgreSQL's own client of logical decoding, which only writes what comes to /dev/null."""
    return [
        *(str(artifacts.postgres_bin() / "pg_recvlogical"), "--dbname", dsn),
        *(
            "--slot",
            f"recvlogical_{table}",
            "--start",
            "--file",
            "/dev/null",
            "--endpos",
            end,
            "--no-loop",
        ),
        *("-o", "proto_version=1", "-o", f"publication_names={publication}"),
    ]


def make_slot(dsn: str, slot: str) -> None:
    """A slot that begins here."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
