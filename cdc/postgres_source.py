"""A PostgreSQL database that is captured, and connections to it with errors that say the mend."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from cdc.errors import CaptureConfigError, SourceLostError
from cdc.oversized_record import OversizedPolicy
from events.event_schema import EventSchemas
from events.values import SESSION_SETTINGS

Connection: TypeAlias = "psycopg.AsyncConnection[TupleRow]"

_CONNECT_TIMEOUT_S = 10
_KEEPALIVE_PROBES = 3


@dataclass(frozen=True, slots=True)
class PostgresSource:
    """One database, its slot and publication.

    `tables` are globs over `schema.table`, none for all tables. `on_gap` says whether capture
    goes on where changes were lost, and whether all tables are then loaded anew. `snapshot` says
    whether rows that are there when capture first sees a table are loaded. `keyless_full`: tables
    without a primary key get REPLICA IDENTITY FULL (where the role is a superuser), since UPDATE
    and DELETE on them would otherwise fail in the application as soon as they are published.
    `wal_budget_mb`: how much log the slot may keep before somebody is told, 0 for half of the
    server's own limit, or 2,048 where it has none.
    A Kafka transaction is full from `group_records` or `group_mb` on; a transaction up to them is
    always whole in one.
    `streaming`: large transactions are sent while in progress and kept in `spill_folder`, up to
    `spill_max_mb` of them, until they are committed.
    `format` is that of changes on Kafka; `tombstones`: a null follows each delete of a key.
    `timeout_s`: a connection on which the server says nothing for so long is given up.
    `on_record_too_large`: whether capture ends where a record is larger than Kafka takes, or tells
    of it in a dead letter and goes on.
    `failover_slot`: from version 17 on standbys may keep a copy of the slot, so that capture goes
    on after a failover. `primary_dsn` is the primary's address where `dsn` is that of a standby.
    `schemas` are those of custom events, which `rowcast.emit` checks.
    """

    name: str
    dsn: str
    slot: str
    publication: str
    tables: tuple[str, ...] = ()
    on_gap: Literal["stop", "continue", "snapshot"] = "stop"
    heartbeat_s: float = 10.0
    keyless_full: bool = True
    snapshot: Literal["initial", "never"] = "never"
    wal_budget_mb: int = 0
    group_records: int = 20_000
    group_mb: int = 8
    streaming: Literal["off", "on"] = "off"
    spill_folder: str = ""
    spill_max_mb: int = 16_384
    format: Literal["json", "connect-json"] = "json"
    tombstones: bool = False
    timeout_s: float = 60.0
    on_record_too_large: OversizedPolicy = "stop"
    failover_slot: bool = True
    primary_dsn: str = ""
    schemas: EventSchemas = field(default_factory=EventSchemas, compare=False, repr=False)

    def wants(self, schema: str, table: str) -> bool:
        """Whether a table is to be captured."""
        name = f"{schema}.{table}"
        return not self.tables or any(fnmatch.fnmatchcase(name, glob) for glob in self.tables)

    @property
    def at_primary(self) -> PostgresSource:
        """The source with the address of where can be written."""
        return replace(self, dsn=self.primary_dsn) if self.primary_dsn else self

    @property
    def setting(self) -> str:
        """Where it stands in the configuration, for errors."""
        return f"[sources.{self.name}] of rowcast.toml"


async def connect(source: PostgresSource, *, replication: bool = False) -> Connection:
    """A connection in autocommit with the settings that the text forms of values need.

    Raises CaptureConfigError where there is none to be had.
    """
    try:
        parts = conninfo_to_dict(source.dsn)
    except psycopg.ProgrammingError as error:
        raise CaptureConfigError(
            found=f"a dsn that PostgreSQL's client cannot read ({_first_line(error)})",
            expected="postgresql://user:password@host:port/database",
            mend=f"set dsn in {source.setting}",
        ) from error
    settings = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
    options = f"{parts.get('options') or ''} {settings}".strip()
    more = {"replication": "database"} if replication else {}
    # What the address itself says of keepalives stays.
    alive = {name: value for name, value in _alive(source).items() if name not in parts}
    try:
        conninfo = make_conninfo(
            source.dsn,
            options=options,
            application_name=f"rowcast-{source.name}",
            connect_timeout=parts.get("connect_timeout") or _CONNECT_TIMEOUT_S,
            **more,
            **alive,
        )
        return await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        raise _connect_error(source, parts, error) from error


@contextmanager
def answered_in_time(source: PostgresSource, connection: Connection) -> Generator[None]:
    """Break the connection where a request inside is not answered within `timeout_s`.

    For requests that the server answers at once. Raises SourceLostError then: whoever waits for
    the answer is told so, since cancelling would wait for the server as well.
    """
    silent = False

    def give_up() -> None:
        nonlocal silent
        silent = True
        shut_down(connection)

    timer = asyncio.get_running_loop().call_later(source.timeout_s, give_up)
    try:
        yield
    except psycopg.OperationalError as error:
        if not silent:
            raise
        raise SourceLostError(
            f"PostgreSQL did not answer a request of the capture of {source.name} within "
            f"{source.timeout_s:g} s (timeout_s in {source.setting})"
        ) from error
    finally:
        timer.cancel()


def shut_down(connection: Connection) -> None:
    """End the TCP connection under a connection; what waits on it fails at once."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)


def _alive(source: PostgresSource) -> dict[str, int]:
    """How the kernel finds out that the other side is gone, by libpq's names."""
    interval_s = max(1, int(source.timeout_s / (_KEEPALIVE_PROBES + 1)))
    return {
        "keepalives_idle": interval_s,
        "keepalives_interval": interval_s,
        "keepalives_count": _KEEPALIVE_PROBES,
        "tcp_user_timeout": int(source.timeout_s * 1_000),
    }


def _connect_error(
    source: PostgresSource, parts: dict[str, str | int | None], error: psycopg.Error
) -> CaptureConfigError:
    place = (
        f"PostgreSQL at {parts.get('host') or 'the default host'}:{parts.get('port') or 5432}, "
        f"database {parts.get('dbname')!r}, role {parts.get('user')!r}"
    )
    text = str(error)
    role = parts.get("user")
    if "WAL sender" in text or "REPLICATION attribute" in text or "replication role" in text:
        return no_replication_right(str(role))
    for symptom, expected, mend in _CONNECT_SYMPTOMS:
        if symptom in text:
            return CaptureConfigError(
                found=f"{place}: {_first_line(error)}",
                expected=expected,
                mend=f"{mend} (dsn in {source.setting})",
            )
    return CaptureConfigError(
        found=f"{place}: {_first_line(error)}",
        expected="a connection",
        mend=f"check dsn in {source.setting} and that the server runs",
    )


_CONNECT_SYMPTOMS = (
    ("password authentication failed", "the role's password", "correct user and password"),
    ("no password supplied", "the role's password", "put the password into the address"),
    ("does not exist", "a database and a role that exist", "correct the name or create it"),
    ("Connection refused", "a server that listens there", "start it, or correct host and port"),
    ("resolve", "a host name that resolves", "correct the host"),
    ("translate host name", "a host name that resolves", "correct the host"),
    ("timeout", "an answer in time", "correct host and port, or open the firewall"),
    ("pg_hba.conf", "an entry in pg_hba.conf for this machine", "add one and reload"),
    ("starting up", "a server that has started", "wait for its recovery to end"),
    ("too many", "a free connection", "raise max_connections or max_wal_senders"),
    ("max_wal_senders", "a free WAL sender", "raise max_wal_senders and restart the server"),
)


def no_replication_right(role: str) -> CaptureConfigError:
    """The error for a role that may not replicate."""
    return CaptureConfigError(
        found=f"the role {role} without the REPLICATION attribute",
        expected="a role that may read the write-ahead log",
        mend=f'alter role "{role}" replication',
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
