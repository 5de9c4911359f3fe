"""Capture of one table as a process of its own; prints `ready` once it is.

python bench/capture_process.py BOOTSTRAP DSN SOURCE TABLE [initial | SPILL_FOLDER]

`initial` loads the rows that are there first; a folder makes it stream in progress.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace

from cdc.postgres import PostgresSource, capture_postgres
from events.cluster import Cluster


def announce() -> None:
    """Say that it is ready."""
    print("ready", flush=True)


async def run(bootstrap: str, dsn: str, name: str, table: str, how: str = "") -> None:
    """Capture until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    source = PostgresSource(name, dsn, f"rowcast_{table}", name, tables=(f"public.{table}",))
    if how == "initial":
        source = replace(source, snapshot="initial")
    elif how:
        source = replace(source, streaming="on", spill_folder=how)
    await capture_postgres(
        source, Cluster(bootstrap, sources=(name,)), stop=stop, on_ready=announce
    )


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:6]))
