"""Rows out of PostgreSQL by COPY, as lines, in slices that leave the event loop its turn.

libpq is driven directly for the same reason as in `replication_stream`: psycopg's own COPY takes
a coroutine a row. The connection must be used by one task only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from psycopg import errors, generators
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from cdc.postgres_source import Connection

_SLICE_LINES = 256
_SLICE_BYTES = 256 * 1024


async def copy_out(connection: Connection, query: str) -> AsyncGenerator[list[bytes]]:
    """The lines of a query's rows. Closed before its end, it cancels the query.

    Raises psycopg.Error as the server does.
    """
    pg = connection.pgconn
    pg.send_query(f"copy ({query}) to stdout".encode())
    (result, *_) = await connection.wait(generators.execute(pg))
    if result.status != ExecStatus.COPY_OUT:
        raise errors.error_from_result(result)
    ended = False
    try:
        while not ended:
            lines, ended = await _slice(pg)
            if lines:
                yield lines
    except GeneratorExit:
        if not ended:
            await connection.cancel_safe()
        while not ended:
            _, ended = await _slice(pg)
        await connection.wait(generators.fetch_many(pg))
        raise
    for result in await connection.wait(generators.fetch_many(pg)):
        if result.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)


async def _slice(pg: PGconn) -> tuple[list[bytes], bool]:
    """Lines that have arrived, none where it had to wait for them; whether they are the last."""
    lines: list[bytes] = []
    size_bytes = 0
    while len(lines) < _SLICE_LINES and size_bytes < _SLICE_BYTES:
        size, data = pg.get_copy_data(1)
        if size == 0:
            pg.consume_input()
            size, data = pg.get_copy_data(1)
        if size > 0:
            lines.append(bytes(data))
            size_bytes += size
        elif size < 0:
            return lines, True
        else:
            break
    if lines:
        await asyncio.sleep(0)
    else:
        await _readable(pg.socket)
    return lines, False


async def _readable(socket: int) -> None:
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(socket, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(socket)
