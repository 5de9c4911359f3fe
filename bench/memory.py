"""`make bench-memory`: how much memory capture takes, however large, however long Kafka is away.

Two loads, each drained by a capture of its own process, started again where it ends as the
supervisor does: one transaction of ROWS rows; then ROWS rows in small transactions written while
Kafka is stopped, for OUTAGE_S at least. Printed is the largest resident set (VmHWM) of any of the
processes. ROWS=100000 OUTAGE_S=5 makes it shorter.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psycopg

from bench.capture import Topic
from bench.capture_backlog import Backlog, backlogs, write_changes
from bench.capture_contestants import process, rowcast_command
from bench.servers import bench_servers
from infra import artifacts
from infra.embedded.kafka import EmbeddedKafka
from tests.conftest import running

ROWS = int(os.environ.get("ROWS", "5000000"))
OUTAGE_S = float(os.environ.get("OUTAGE_S", "60"))
_LIMIT_S = 3_600.0
_LOOK_S = 0.02
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


class KeptCapture(threading.Thread):
    """A capture that is started again whenever it ends; `peak_mib` is the most any took."""

    def __init__(self, command: list[str], log: Path) -> None:
        super().__init__(daemon=True)
        self._command, self._log = command, log
        self._stopped = threading.Event()
        self.peak_mib = 0.0
        self.starts = 0

    def run(self) -> None:
        """Until stopped."""
        while not self._stopped.is_set():
            self.starts += 1
            with process(
                self._command, self._log, {"PYTHONPATH": str(artifacts.PROJECT)}
            ) as started:
                while not self._stopped.wait(_LOOK_S) and self._look(started.pid):
                    pass
            self._stopped.wait(0.5)

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self.join()

    def wait_until_ready(self) -> None:
        """Wait until it says so."""
        while not self._log.exists() or "ready" not in self._log.read_text(errors="replace"):
            time.sleep(_LOOK_S)

    def _look(self, pid: int) -> bool:
        """Note the peak; whether the process is still there."""
        with suppress(FileNotFoundError, ProcessLookupError):
            found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
            if found is not None:
                self.peak_mib = max(self.peak_mib, int(found[1]) / 1024)
            # A process that has ended, and was not waited for yet, has no memory.
            return found is not None
        return False


def main() -> None:
    """Run both loads and print their peaks."""
    with bench_servers() as (folder, kafka, postgres):
        narrow = backlogs()[0]
        dsn = postgres.dsn("bench")
        with running(postgres):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(narrow.create.encode())
                connection.execute(f"create publication bench for table {narrow.table}".encode())
            with running(kafka):
                topic = Topic(kafka.bootstrap, f"bench.public.{narrow.table}")
                topic.close()
                capture = _start(kafka, dsn, narrow, folder / "capture.log")
                with psycopg.connect(dsn, autocommit=True) as connection:
                    whole = narrow.change.format(table=narrow.table, first=1, last=ROWS)
                    connection.execute(whole.encode())
                before = _until_delivered(kafka, narrow, ROWS)
                capture.stop()
            _say(f"one transaction of {ROWS:,} rows", capture)
            capture = _start(kafka, dsn, narrow, folder / "outage.log", wait=False)
            begun_s = time.monotonic()
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"truncate {narrow.table}".encode())
            write_changes(dsn, narrow, narrow.change, ROWS)
            while time.monotonic() - begun_s < OUTAGE_S:
                time.sleep(_LOOK_S)
            away_s = time.monotonic() - begun_s
            with running(kafka):
                _until_delivered(kafka, narrow, before + ROWS)
                capture.stop()
            _say(f"{ROWS:,} rows written while Kafka was away for {away_s:.0f} s", capture)


def _start(
    kafka: EmbeddedKafka, dsn: str, backlog: Backlog, log: Path, *, wait: bool = True
) -> KeptCapture:
    command = rowcast_command(kafka.bootstrap, dsn, "bench", backlog.table)
    capture = KeptCapture(command, log)
    capture.start()
    if wait:
        capture.wait_until_ready()
    return capture


def _until_delivered(kafka: EmbeddedKafka, backlog: Backlog, count: int) -> int:
    topic = Topic(kafka.bootstrap, f"bench.public.{backlog.table}")
    deadline_s = time.monotonic() + _LIMIT_S
    try:
        while (found := topic.count()) < count:
            if time.monotonic() > deadline_s:
                raise SystemExit(f"{found:,} of {count:,} were delivered within {_LIMIT_S:.0f} s")
            time.sleep(_LOOK_S)
        return found
    finally:
        topic.close()


def _say(load: str, capture: KeptCapture) -> None:
    starts = f"{capture.starts} starts" if capture.starts > 1 else "1 start"
    sys.stdout.write(f"{load:<60} peak {capture.peak_mib:>5.0f} MiB, {starts}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
