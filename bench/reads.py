"""`make bench-reads`: what the row policy of `rowcast audit` costs whoever reads.

pgbench's select-only run (one row by its key), one client, as a role without special rights:
without row security, with row security and an open policy, and audited; then a count of many
rows. SECONDS_EACH changes how long. docs/read-audit.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from cdc.postgres_source import PostgresSource, connect
from cdc.read_policy import disable_row_audit, enable_row_audit
from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import running
from tests.port_base import free_ports

SECONDS = os.environ.get("SECONDS_EACH", "10")
_TABLE = "pgbench_accounts"


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


def report(label: str, dsn: str, folder: Path) -> None:
    """A line of the table."""
    scan = folder / "scan.sql"
    scan.write_text(f"select count(abalance) from {_TABLE} where aid <= 10000;\n")
    rows_per_s = transactions_per_s(dsn, scan) * 10_000
    sys.stdout.write(f"{label:<34} {transactions_per_s(dsn):>12,.0f} {rows_per_s:>14,.0f}\n")
    sys.stdout.flush()


async def audit(dsn: str, *, on: bool) -> None:
    """Install the policy, or take it away."""
    source = PostgresSource("bench", dsn, "bench", "bench")
    connection = await connect(source)
    if on:
        await enable_row_audit(connection, source, "public", _TABLE, force=True)
    else:
        await disable_row_audit(connection, source, "public", _TABLE)
    await connection.close()


def main() -> None:
    """Start a server, measure, print."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = EmbeddedPostgres(
            *(folder / "postgres", free_ports(1)[0], folder / "postgres.log", "owner", "listener"),
            databases=("bench",),
        )
        with running(postgres):
            dsn = postgres.dsn("bench")
            pgbench(dsn, "--initialize", "--quiet", "--scale=5")
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("create role reader login password 'x'")
                owner.execute(f"grant select on {_TABLE}, pgbench_branches to reader".encode())
            reader = make_conninfo(dsn, user="reader", password="x")
            sys.stdout.write(f"{'':<34} {'selects/s':>12} {'rows/s counted':>14}\n")
            report("no row security", reader, folder)
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute(f"create policy open on {_TABLE} using (true)".encode())
                owner.execute(f"alter table {_TABLE} enable row level security".encode())
                report("row security, an open policy", reader, folder)
                owner.execute(f"drop policy open on {_TABLE}".encode())
                owner.execute(f"alter table {_TABLE} disable row level security".encode())
            asyncio.run(audit(dsn, on=True))
            report("audited by row", reader, folder)
            asyncio.run(audit(dsn, on=False))


if __name__ == "__main__":
    main()
