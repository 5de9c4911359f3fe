"""The server's log files over SQL: which there are, what stands in them, what their times mean.

Needs pg_monitor, and EXECUTE on pg_read_binary_file; `statement_audit_check` says so.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from typing import LiteralString

from cdc.log_progress import HEAD_BYTES, LogPlace
from cdc.log_record import LogFormat
from cdc.postgres_source import Connection

READ_BYTES = 256 * 1024

# In this order: a file that is not the current one any more before it is read is read whole.
_READ: LiteralString = """
    select pg_catalog.pg_current_logfile(%(format)s),
           pg_catalog.pg_read_binary_file(%(path)s, %(position)s, %(length)s, true),
           pg_catalog.pg_read_binary_file(%(path)s, 0, %(head)s, true),
           floor(extract(epoch from pg_catalog.clock_timestamp()))::float8
"""
_FILES: LiteralString = """
    select name, size, extract(epoch from modification)::float8,
           coalesce(pg_catalog.pg_read_binary_file(
               pg_catalog.current_setting('log_directory') || '/' || name, 0, %s, true), '')
    from pg_catalog.pg_ls_logdir() where name like %s
"""
_CURRENT: LiteralString = """
    select pg_catalog.pg_current_logfile(%s), pg_catalog.current_setting('log_directory')
"""
_ENCODING: LiteralString = """
    select pg_catalog.pg_encoding_to_char(encoding)::text from pg_catalog.pg_database
    where datname = pg_catalog.current_database()
"""
# A local time that there is twice in a year is told apart by its abbreviation.
_INSTANTS: LiteralString = """
    select u.told, u.zone, (
        select extract(epoch from t)::bigint
        from (select pg_catalog.timezone(pg_catalog.current_setting('log_timezone'),
                                         u.told::timestamp) + shift as t
              from unnest('{0,01:00,-01:00}'::interval[]) shift) near
        where pg_catalog.timezone(pg_catalog.current_setting('log_timezone'), t)
            = u.told::timestamp
        order by pg_catalog.to_char(t, 'TZ') <> u.zone limit 1)
    from unnest(%s::text[], %s::text[]) u(told, zone)
"""
_QUIET = (
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_duration", "off"),
    ("pgaudit.log", "none"),
)
_IS_SUPERUSER: LiteralString = """
    select rolsuper from pg_catalog.pg_roles where rolname = current_user
"""
_MAY_SET: LiteralString = "select pg_catalog.has_parameter_privilege(%s, 'SET')"
_PARAMETER_PRIVILEGES_SINCE = 150_000
_MINUTE = len("2026-11-25 06:51")


@dataclass(frozen=True, slots=True)
class LogLook:
    """What one look at a file found: `data` None where the file is gone or another by now.

    `is_current` is whether no later file is written, `is_written` whether this one is: not so where
    the server writes none of this format. `clock` is the server's time of the look, in
    whole seconds.
    """

    is_current: bool
    is_written: bool
    data: bytes | None
    head: str
    clock: float


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the log directory; `head` is what it begins with."""

    name: str
    size_bytes: int
    written: float
    head: str

    @property
    def order(self) -> tuple[float, str, str]:
        """Files were written in this order; times of files are whole seconds."""
        return (self.written, self.head, self.name)


class PostgresLog:
    """The log of the server that a connection leads to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._instants: dict[tuple[str, str], int] = {}

    async def be_quiet(self) -> None:
        """Keep our own statements out of the log where the role may; reading must not feed it."""
        (is_superuser,) = await self._row(_IS_SUPERUSER)
        for name, value in _QUIET:
            if not is_superuser:
                if self._connection.info.server_version < _PARAMETER_PRIVILEGES_SINCE:
                    return
                (may_set,) = await self._row(_MAY_SET, name)
                if not may_set:
                    continue
            await self._row("select pg_catalog.set_config(%s, %s, false)", name, value)

    async def codec(self) -> str:
        """Python's name of the database's encoding, UTF-8 where it has none."""
        (name,) = await self._row(_ENCODING)
        try:
            return codecs.lookup(str(name).replace("WIN", "cp")).name
        except LookupError:
            return "utf-8"

    async def current(self, log_format: LogFormat) -> str | None:
        """Name of the file that is written now, None where this format is not."""
        path, _ = await self._row(_CURRENT, log_format.destination)
        return None if path is None else str(path).rpartition("/")[2]

    async def end(self, log_format: LogFormat) -> LogPlace | None:
        """Where the log ends now."""
        name = await self.current(log_format)
        if name is None:
            return None
        for file in await self.files(log_format):
            if file.name == name:
                return LogPlace(name, file.size_bytes, file.head, file.written)
        return LogPlace(name)

    async def look(self, place: LogPlace, position: int) -> LogLook:
        """Read on in a file, up to READ_BYTES."""
        cursor = await self._connection.execute(
            _READ,
            {
                "format": LogFormat.of_file(place.file).destination,
                "path": await self._path(place.file),
                "position": position,
                "length": READ_BYTES,
                "head": HEAD_BYTES,
            },
            binary=True,
        )
        row = await cursor.fetchone()
        current, data, head, clock = row if row is not None else (None, None, None, 0.0)
        is_written = current is not None and str(current).rpartition("/")[2] == place.file
        is_current = current is None or is_written
        if data is None or head is None:
            return LogLook(is_current, is_written, None, "", float(clock))
        begins = _head_text(bytes(head))
        if not begins.startswith(place.head):
            return LogLook(is_current, is_written, None, begins, float(clock))
        return LogLook(is_current, is_written, bytes(data), begins, float(clock))

    async def files(self, log_format: LogFormat) -> list[LogFile]:
        """All files of a format, in the order in which they were written."""
        cursor = await self._connection.execute(
            _FILES, (HEAD_BYTES, f"%{log_format.suffix}"), binary=True
        )
        found = [
            LogFile(str(name), int(size), float(written), _head_text(bytes(head)))
            for name, size, written, head in await cursor.fetchall()
        ]
        return sorted(found, key=lambda file: file.order)

    async def instants_ms(self, timestamps: Iterable[str]) -> dict[str, int]:
        """When the log's timestamps are, `2026-11-25 06:51:15.123 CET`, in ms since 1970."""
        asked = list(timestamps)
        minutes = {(one[:_MINUTE], one.rpartition(" ")[2]) for one in asked}
        new = sorted(minutes - self._instants.keys())
        if new:
            await self._resolve(new)
        found: dict[str, int] = {}
        for one in asked:
            begin = self._instants[one[:_MINUTE], one.rpartition(" ")[2]]
            seconds = float(one[_MINUTE + 1 :].partition(" ")[0])
            found[one] = begin * 1_000 + round(seconds * 1_000)
        return found

    async def _resolve(self, minutes: list[tuple[str, str]]) -> None:
        if len(self._instants) > 10_000:
            self._instants.clear()
        # to_char shows the session's zone.
        await self._connection.execute(
            "select set_config('timezone', current_setting('log_timezone'), false)"
        )
        cursor = await self._connection.execute(
            _INSTANTS, ([minute for minute, _ in minutes], [zone for _, zone in minutes])
        )
        for minute, zone, epoch_s in await cursor.fetchall():
            self._instants[str(minute), str(zone)] = int(epoch_s or 0)

    async def _path(self, name: str) -> str:
        (directory,) = await self._row("select pg_catalog.current_setting('log_directory')")
        return f"{directory}/{name}"

    async def _row(self, query: LiteralString, *values: object) -> tuple[object, ...]:
        cursor = await self._connection.execute(query, values or None)
        row = await cursor.fetchone()
        return tuple(row) if row is not None else (None,)


def _head_text(head: bytes) -> str:
    # Any bytes, one character each: it is compared, never shown.
    return head.decode("latin-1")


def successor(files: list[LogFile], place: LogPlace, *, is_gone: bool) -> LogFile | None:
    """The file that was written after that of a place, the next to be read.

    Where it is gone, or another has its name, it is known by when it was last seen written.
    """
    if not is_gone:
        names = [file.name for file in files]
        if place.file in names:
            later = files[names.index(place.file) + 1 :]
            return later[0] if later else None
    order = (place.written, place.head, place.file)
    later = [file for file in files if file.order > order]
    return later[0] if later else None
