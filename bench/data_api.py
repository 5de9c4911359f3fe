"""`make bench-api`: what the data API costs, next to a bare Starlette + psycopg handler.

Each server is one process with the same pool and the same rows, asked for one row by its key and
for twenty by a filter: the bare handler, the data API with its events, and without. The data API
does more (a token, a transaction as its role, the query read from the address, keys of the rows);
the goal is 0.7 of the bare handler's requests a second. SECONDS and CLIENTS say how long and how
many ask at once. Prints a table; docs/benchmarks.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.api_server import SECRET
from events.token import make_token
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import free_ports, running

SECONDS = float(os.environ.get("SECONDS", "10"))
CLIENTS = int(os.environ.get("CLIENTS", "16"))
ROUNDS = 3
ROWS = 100_000
SHELVES = ROWS // 50
CONTESTANTS = {"bare": "Starlette + psycopg", "events": "Rowcast", "silent": "without events"}
QUERIES = {
    "one row": lambda: f"select=id,name,price&id=eq.{random.randrange(ROWS)}",
    "twenty rows": lambda: (
        f"select=id,name,price,at&shelf=eq.{random.randrange(SHELVES)}&order=id&limit=20"
    ),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests a second, and what a request took in ms."""

    rate: float
    p50_ms: float
    p99_ms: float


async def client(port: int, query: str, token: str, until_s: float, took_s: list[float]) -> None:
    """Ask on one connection, one request after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"Host: bench\r\nAuthorization: Bearer {token}\r\n\r\n"
    while (begun_s := time.perf_counter()) < until_s:
        writer.write(f"GET /rest/v1/items?{QUERIES[query]()} HTTP/1.1\r\n{head}".encode())
        headers = await reader.readuntil(b"\r\n\r\n")
        if not headers.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(headers.decode())
        length = headers.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        took_s.append(time.perf_counter() - begun_s)
    writer.close()


async def measure(port: int, query: str, token: str, seconds: float) -> Measured:
    """All clients at once, for a while."""
    took_s: list[float] = []
    until_s = time.perf_counter() + seconds
    begun_s = time.perf_counter()
    await asyncio.gather(*(client(port, query, token, until_s, took_s) for _ in range(CLIENTS)))
    whole_s = time.perf_counter() - begun_s
    took_s.sort()
    return Measured(
        len(took_s) / whole_s,
        took_s[len(took_s) // 2] * 1_000,
        took_s[len(took_s) * 99 // 100] * 1_000,
    )


@contextmanager
def server(kind: str, dsn: str, bootstrap: str) -> Generator[int]:
    """A contestant's process; gives its port."""
    (port,) = free_ports(1)
    command = (sys.executable, "bench/api_server.py", kind, str(port), dsn, bootstrap)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    try:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{kind} did not start")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def make_rows(postgres: EmbeddedPostgres) -> None:
    """The table that is asked."""
    with psycopg.connect(postgres.dsn("bench"), autocommit=True) as connection:
        connection.execute(
            "create table items (id int primary key, name text, price numeric(10, 2), shelf int,"
            " at timestamptz default now())"
        )
        connection.execute(
            "insert into items (id, name, price, shelf) select n, 'item ' || n, n / 7.0, n %% %s"
            " from generate_series(0, %s) n",
            (SHELVES, ROWS - 1),
        )
        connection.execute("create index on items (shelf, id)")
        connection.execute("vacuum analyze items")


async def contest(port: int, token: str) -> dict[str, Measured]:
    """Every query, after a moment to warm up."""
    found: dict[str, Measured] = {}
    for query in QUERIES:
        await measure(port, query, token, SECONDS / 5)
        found[query] = await measure(port, query, token, SECONDS)
    return found


def main() -> None:
    """Start the servers, then the rounds; of each contestant the best round counts."""
    token = make_token(SECRET, "authenticated", "bench", 3_600, now=time.time())
    best: dict[tuple[str, str], Measured] = {}
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port, controller, pg_port = free_ports(3)
        kafka = EmbeddedKafka(folder / "kafka", port, controller, folder / "kafka.log")
        postgres = EmbeddedPostgres(
            *(folder / "postgres", pg_port, folder / "postgres.log", "owner", "listener"),
            databases=("bench",),
            api_password="api",
        )
        with running(kafka), running(postgres):
            make_rows(postgres)
            for _ in range(ROUNDS):
                for kind in CONTESTANTS:
                    dsn = postgres.dsn("bench") if kind == "bare" else postgres.api_dsn("bench")
                    with server(kind, dsn, kafka.bootstrap) as at:
                        for query, one in asyncio.run(contest(at, token)).items():
                            before = best.get((kind, query))
                            if before is None or one.rate > before.rate:
                                best[kind, query] = one
    print(f"{'':<34} requests/s  of bare   p50 ms   p99 ms")
    for query in QUERIES:
        for kind, label in CONTESTANTS.items():
            one = best[kind, query]
            share = one.rate / best["bare", query].rate
            print(
                f"{query + ', ' + label:<34} {one.rate:>10,.0f} {share:>8.2f} {one.p50_ms:>8.2f} "
                f"{one.p99_ms:>8.2f}"
            )


if __name__ == "__main__":
    main()
