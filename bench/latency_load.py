"""Single-row transactions at a steady rate, each row with the server's clock in it.

python bench/latency_load.py DSN TABLE ROWS_PER_S SECONDS
"""

from __future__ import annotations

import asyncio
import sys
import time

import psycopg

_CONNECTIONS = 4


async def _write(dsn: str, table: str, first: int, every_s: float, seconds: float) -> None:
    statement = f"insert into {table} values (%s, clock_timestamp(), repeat('x', 100))".encode()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        started = time.perf_counter()
        number = first
        for step in range(int(seconds / every_s)):
            # Behind its time it catches up, as independent users would.
            await asyncio.sleep(max(0.0, started + step * every_s - time.perf_counter()))
            await connection.execute(statement, (number,))
            number += _CONNECTIONS


async def main() -> None:
    """Write from a few connections, evenly spread in time."""
    dsn, table, rate, seconds = sys.argv[1:5]
    every_s = _CONNECTIONS / float(rate)
    writers: list[asyncio.Task[None]] = []
    for first in range(_CONNECTIONS):
        writers.append(asyncio.create_task(_write(dsn, table, first + 1, every_s, float(seconds))))
        await asyncio.sleep(every_s / _CONNECTIONS)
    await asyncio.gather(*writers)


if __name__ == "__main__":
    asyncio.run(main())
