"""Kills in a row under load, and a ledger of them: `make ledger`.

Capture, Kafka or PostgreSQL is killed with SIGKILL, which and when a seed decides, while writers go
on; what is killed is started again. Sometimes the next kill comes before all is caught up. At the
end every row of every table is compared with its topic.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString, cast

import psycopg

from cdc.postgres import PostgresSource
from cdc.postgres_verification import VerifyLimits, verify_postgres
from cdc.topic_creation import ensure_own_topics
from cdc.verification import Verification
from events.cluster import Cluster
from events.topic import Topics
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from rowcast.verify_command import verification_text
from tests.cdc.storm import storm
from tests.faults.bulk_load import TABLES, BulkWriter
from tests.faults.processes import ServiceProcess
from tests.faults.servers import KeptRunning, KillableServer, kept_running
from tests.port_base import free_ports

SCOPE = "shop"
ITEMS: LiteralString = "create table items (id int primary key, seq text)"
WRITERS = 3
CAUGHT_UP_LIMIT_S = 180.0
VICTIMS = ("capture", "kafka", "postgres")
VICTIM_WEIGHTS = (5, 2, 3)
_AGAIN_AT_ONCE = 0.25
_BOTH = 0.15


@dataclass(frozen=True, slots=True)
class Kill:
    """What was killed, when (since the start), and after what time all was caught up.

    None where the next kill came first.
    """

    what: tuple[str, ...]
    at_s: float
    caught_up_s: float | None


@dataclass(slots=True)
class Ledger:
    """The kills of one run and what it came to."""

    seed: int
    kills: list[Kill] = field(default_factory=list[Kill])
    took_s: float = 0.0
    transactions: int = 0
    rows: int = 0
    capture_ends: int = 0
    verification: Verification | None = None

    def text(self) -> str:
        """In Markdown: sums, then a line for each kill."""
        found = self.verification
        assert found is not None
        waits: defaultdict[str, list[float]] = defaultdict(list)
        for kill in self.kills:
            if kill.caught_up_s is not None:
                waits[" and ".join(kill.what)].append(kill.caught_up_s)
        records = sum(table.records for table in found.tables)
        head = (
            f"seed {self.seed}: {len(self.kills)} kills in {self.took_s / 60:.1f} minutes, "
            f"{self.transactions:,} transactions committed by {WRITERS + 1} writers, "
            f"{records:,} records on Kafka, capture ended {self.capture_ends} times"
        )
        lines = [
            head,
            "",
            verification_text(found, as_json=False),
            "",
            "| killed | times | caught up after: median | longest | next kill came first |",
            "|---|---|---|---|---|",
        ]
        for what in sorted({" and ".join(kill.what) for kill in self.kills}):
            times = sum(" and ".join(kill.what) == what for kill in self.kills)
            known = sorted(waits[what])
            middle = f"{known[len(known) // 2]:.1f} s" if known else ""
            longest = f"{known[-1]:.1f} s" if known else ""
            lines.append(f"| {what} | {times} | {middle} | {longest} | {times - len(known)} |")
        lines += ["", "kill  after     what              caught up after"]
        for number, kill in enumerate(self.kills, 1):
            wait = f"{kill.caught_up_s:6.1f} s" if kill.caught_up_s is not None else "     -"
            what = " and ".join(kill.what)
            lines.append(f"{number:4}  {kill.at_s:7.1f} s {what:<17} {wait}")
        return "\n".join(lines)


class Place:
    """The servers, capture and load of one run."""

    def __init__(self, folder: Path, seed: int, stack: ExitStack) -> None:
        postgres_port, kafka_port, controller_port = free_ports(3)
        postgres = EmbeddedPostgres(
            folder / "postgres",
            postgres_port,
            folder / "postgres.log",
            password="owner",
            listener_password="listener",
            databases=("ledger",),
        )
        kafka = EmbeddedKafka(folder / "kafka", kafka_port, controller_port, folder / "kafka.log")
        self.postgres, self.kafka = KillableServer(postgres), KillableServer(kafka)
        for server in (self.postgres, self.kafka):
            stack.callback(server.close)
            server.start()
        self.dsn = f"{postgres.dsn('ledger')}?options=-c%20search_path%3D{SCOPE}"
        self.cluster = Cluster(kafka.bootstrap, Topics("ledger"), ("ledger",))
        self.source = PostgresSource("ledger", self.dsn, SCOPE, SCOPE, snapshot="initial")
        asyncio.run(ensure_own_topics(self.cluster))
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("create schema shop")
            for statement in (ITEMS, *TABLES):
                connection.execute(statement)
        arguments = ("postgres", kafka.bootstrap, "ledger", "ledger", self.dsn, SCOPE)
        service = ServiceProcess(folder / "capture.log", "capture_process.py", *arguments)
        self.capture: KeptRunning = stack.enter_context(kept_running(service))
        self.bulk = BulkWriter(self.dsn, seed, pause_s=2.0)
        self.bulk.start()
        stack.callback(self.bulk.stop)
        self.writers = stack.enter_context(
            storm(self.dsn, writers=WRITERS, keys=500, pause_s=0.02, stubborn=True)
        )

    def kill(self, what: tuple[str, ...], down_s: float) -> None:
        """Kill, and after a while start again what does not start by itself."""
        for name in what:
            if name == "capture":
                self.capture.kill()
            else:
                self._server(name).signal(signal.SIGKILL)
        time.sleep(down_s)
        for name in what:
            if name != "capture":
                self._server(name).start()

    def _server(self, name: str) -> KillableServer:
        return self.kafka if name == "kafka" else self.postgres

    def end_of_log(self) -> str:
        """Where the log ends now."""
        return self._ask("select pg_current_wal_insert_lsn()::text")

    def has_passed(self, position: str) -> bool:
        """Whether all up to a position of the log is committed on Kafka and confirmed."""
        query = (
            "select coalesce((select confirmed_flush_lsn >= '%s' from pg_replication_slots), false)"
        )
        try:
            return self._ask(cast("LiteralString", query % position)) == "True"
        except psycopg.OperationalError:
            return False

    def _ask(self, query: LiteralString) -> str:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return str(row[0])

    def verify(self) -> Verification:
        """Every table against its topic."""
        limits = VerifyLimits(timeout_s=CAUGHT_UP_LIMIT_S)
        return asyncio.run(verify_postgres(self.source, self.cluster, limits=limits))


def run(folder: Path, kills: int, seed: int) -> Ledger:
    """So many kills; the ledger with what the comparison at the end found."""
    moments = random.Random(seed)
    ledger = Ledger(seed)
    with ExitStack() as stack:
        place = Place(folder, seed, stack)
        begun_s = time.monotonic()
        for number in range(1, kills + 1):
            time.sleep(moments.uniform(0.1, 2.0))
            what = _victims(moments)
            killed_s = time.monotonic()
            place.kill(what, down_s=moments.uniform(0, 1))
            again = moments.random() < _AGAIN_AT_ONCE and number < kills
            caught_up_s = None if again else _caught_up(place) - killed_s
            ledger.kills.append(Kill(what, killed_s - begun_s, caught_up_s))
            said = f"after {caught_up_s:.1f} s" if caught_up_s is not None else "not waited for"
            print(f"{number} of {kills}: {' and '.join(what)}, caught up {said}", flush=True)
        place.bulk.stop()
        for writer in place.writers:
            writer.stop()
        ledger.verification = place.verify()
        ledger.took_s = time.monotonic() - begun_s
        ledger.transactions = ledger.verification.transactions or 0
        ledger.rows = sum(table.rows for table in ledger.verification.tables)
        ledger.capture_ends = place.capture.ends
    return ledger


def _victims(moments: random.Random) -> tuple[str, ...]:
    first, second = moments.choices(VICTIMS, VICTIM_WEIGHTS, k=2)
    both = first != second and moments.random() < _BOTH
    return (first, second) if both else (first,)


def _caught_up(place: Place) -> float:
    """When all that was in the log a moment ago is on Kafka."""
    position = place.end_of_log()
    deadline_s = time.monotonic() + CAUGHT_UP_LIMIT_S
    while not place.has_passed(position):
        assert time.monotonic() < deadline_s, f"capture has not passed {position}"
        time.sleep(0.1)
    return time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**32))
    parser.add_argument("--folder", type=Path, help="Where servers and logs are kept.")
    parser.add_argument("--out", type=Path, help="Where the ledger is written.")
    arguments = parser.parse_args()
    seed = cast("int", arguments.seed)
    print(f"seed {seed}", flush=True)
    with ExitStack() as stack:
        folder = cast("Path | None", arguments.folder)
        if folder is None:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="rowcast-ledger-"))
            )
        folder.mkdir(parents=True, exist_ok=True)
        ledger = run(folder, cast("int", arguments.kills), seed)
    text = ledger.text()
    print(text)
    if arguments.out is not None:
        cast("Path", arguments.out).write_text(text + "\n")
    assert ledger.verification is not None
    raise SystemExit(1 if ledger.verification.difference_count else 0)


if __name__ == "__main__":
    main()
