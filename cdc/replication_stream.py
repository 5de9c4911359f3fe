"""The replication connection once it streams: frames in, feedback out, the event loop kept live.

libpq is driven directly, since a hundred thousand rows a second leave no room for a coroutine a
row: `read` takes what has arrived and never waits, `wait` sleeps until there may be more.
Feedback goes out whatever the reader does, so that a slow Kafka never makes the server give up
on us (wal_sender_timeout); a server that blocks on sending still reads it. And it asks for an
answer where nothing has come for a while, so that a connection that is dead without saying so is
given up (as wal_receiver_timeout does for PostgreSQL's own subscribers).
"""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import errors, sql
from psycopg.pq import ExecStatus

from cdc.compiled_rows import DRAINED, ENDED, FRAME, LIMIT, CopyAddresses, copy_addresses
from cdc.errors import CaptureConfigError, SourceLostError
from cdc.postgres_source import Connection, PostgresSource
from cdc.replication_frames import encode_status
from cdc.transaction_assembly import TransactionAssembly
from events.lsn import Lsn

_PROTOCOL = {"off": "proto_version '1'", "on": "proto_version '2', streaming 'on'"}


class ReplicationStream:
    """Frames of one slot, after `start`."""

    def __init__(self, connection: Connection, source: PostgresSource) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._writing = False
        self._copy: CopyAddresses | None = None
        self._dry_since_s: float | None = None

    @property
    def connection(self) -> Connection:
        """The connection it goes over."""
        return self._connection

    async def start(self, position: Lsn) -> None:
        """Ask for the log from a position on.

        Raises psycopg's ObjectInUse while another connection streams from the slot.
        """
        slot = sql.Identifier(self._source.slot).as_string(self._connection)
        # A list of identifiers inside a literal, so it is quoted twice.
        names = sql.Identifier(self._source.publication).as_string(self._connection)
        publications = sql.Literal(names).as_string(self._connection)
        statement = (
            f"START_REPLICATION SLOT {slot} LOGICAL {position} "
            f"({_PROTOCOL[self._source.streaming]}, publication_names {publications}, "
            "messages 'true')"
        ).encode()
        await self._connection.execute(statement)
        self._pg.nonblocking = 1
        self._copy = copy_addresses(self._pg)

    def read(self) -> bytes | None:
        """The next frame that has arrived, None where there is none yet.

        Raises SourceLostError where the stream has ended.
        """
        try:
            size, data = self._pg.get_copy_data(1)
            if size == 0:
                self._pg.consume_input()
                size, data = self._pg.get_copy_data(1)
        except psycopg.OperationalError as error:
            raise self._lost(str(error).strip()) from error
        if size > 0:
            self._dry_since_s = None
            return bytes(data)
        if size == 0:
            return None
        raise self._ended()

    def read_past_rows(self, assembly: TransactionAssembly, frames_max: int) -> bytes | None:
        """Like `read`, and rows go from libpq into the assembly without being a frame here.

        Empty where so many frames, or as many as the assembly holds, are taken in.
        """
        if self._copy is None:
            return self.read()
        status, frame = assembly.drain(self._copy, frames_max)
        if status in (FRAME, LIMIT):
            self._dry_since_s = None
        if status == FRAME:
            return frame
        if status == DRAINED:
            return None
        if status == LIMIT:
            return b""
        if status == ENDED:
            raise self._ended()
        raise self._lost(self._pg.get_error_message().strip())

    async def wait(self) -> None:
        """Sleep until there may be a frame or `wake` was called.

        Only after all that had arrived was read: from then on silence is the server's.
        """
        if self._dry_since_s is None:
            self._dry_since_s = self._loop.time()
        # Watched only here: a socket that has data would call back in every turn of the loop.
        self._loop.add_reader(self._pg.socket, self._on_readable)
        try:
            await self._wake.wait()
        finally:
            self._loop.remove_reader(self._pg.socket)
        self._wake.clear()

    def wake(self) -> None:
        """End a wait, now or the next."""
        self._wake.set()

    def send_status(self, received: Lsn, confirmed: Lsn, now_us: int) -> None:
        """Tell the server where we stand; returns at once, whatever the server reads.

        Raises SourceLostError where the connection is broken, or where the server has sent nothing
        for the source's `timeout_s` though it was asked to.
        """
        silent_s = 0.0 if self._dry_since_s is None else self._loop.time() - self._dry_since_s
        if silent_s > self._source.timeout_s:
            raise self._lost(f"the server has sent nothing for {silent_s:.0f} s")
        asks = silent_s > self._source.timeout_s / 2
        status = encode_status(received, confirmed, now_us, reply_requested=asks)
        try:
            self._pg.put_copy_data(status)
            self._flush()
        except psycopg.OperationalError as error:
            raise self._lost(str(error).strip()) from error

    async def close(self) -> None:
        """Close the connection; the server frees the slot."""
        if self._writing:
            self._loop.remove_writer(self._pg.socket)
            self._writing = False
        await self._connection.close()

    def _flush(self) -> None:
        pending = bool(self._pg.flush())
        if pending != self._writing:
            self._writing = pending
            if pending:
                self._loop.add_writer(self._pg.socket, self._on_writable)
            else:
                self._loop.remove_writer(self._pg.socket)

    def _on_readable(self) -> None:
        self._dry_since_s = None
        self._wake.set()

    def _on_writable(self) -> None:
        try:
            self._flush()
        except psycopg.OperationalError:
            # The next read or status says it where someone listens.
            self._loop.remove_writer(self._pg.socket)
            self._writing = False
            self._wake.set()

    def _ended(self) -> Exception:
        result = self._pg.get_result()
        if result is None or result.status == ExecStatus.COMMAND_OK:
            return self._lost("the server ended the stream")
        error = errors.error_from_result(result)
        text = str(error).strip()
        if isinstance(error, errors.UndefinedObject):
            return CaptureConfigError(
                found=f"the server refusing to decode: {text}",
                expected=f"the publication {self._source.publication}, older than the slot",
                mend=f'drop the slot {self._source.slot}, and set on_gap = "continue" in '
                f"{self._source.setting} to go on from now",
            )
        return self._lost(text)

    def _lost(self, reason: str) -> SourceLostError:
        return SourceLostError(
            f"the replication connection of {self._source.name} ended: {reason or 'no reason'}"
        )
