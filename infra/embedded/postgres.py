"""PostgreSQL with logical decoding on, 18 unless told otherwise, a database for each source in it.

Roles: `rowcast`, a superuser, for capture and for the developer; `rowcast_listener`, which
listeners' code works as: it may read and write every table and no more; `rowcast_api`, which may
nothing but become one of the roles of tokens, `anon`, `authenticated` and `service_role`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from infra import artifacts
from infra.errors import ServerStartError
from infra.process import ProcessSpec
from infra.unprivileged import give_to_unprivileged, unprivileged_prefix

OWNER = "rowcast"
LISTENER_ROLE = "rowcast_listener"
API_ROLE = "rowcast_api"

# What a new table may be used for, in this server of the developer's own: signed-in users and the
# service may read and write it unless its policies say otherwise, anybody else may not.
_API_GRANTS: LiteralString = """
    grant usage on schema public to anon, authenticated, service_role;
    alter default privileges for role rowcast in schema public
        grant select, insert, update, delete on tables to authenticated, service_role;
    alter default privileges for role rowcast in schema public
        grant usage, select on sequences to authenticated, service_role;
"""


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """One server; `settings` are added to postgresql.conf's, last wins.

    `programs` is the folder of another version's programs.
    """

    folder: Path
    port: int
    log: Path
    password: str
    listener_password: str
    databases: tuple[str, ...] = ()
    api_password: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    programs: Path | None = None
    name: str = "postgres"

    @property
    def ports(self) -> tuple[int, ...]:
        """The port it takes on loopback."""
        return (self.port,)

    def dsn(self, database: str) -> str:
        """Address of a database for its owner."""
        return f"postgresql://{OWNER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def listener_dsn(self, database: str) -> str:
        """Address of a database for listeners' code."""
        return (
            f"postgresql://{LISTENER_ROLE}:{self.listener_password}"
            f"@127.0.0.1:{self.port}/{database}"
        )

    def api_dsn(self, database: str) -> str:
        """Address of a database for the data API."""
        return f"postgresql://{API_ROLE}:{self.api_password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the data directory the first time (two seconds)."""
        if (self.folder / "PG_VERSION").exists():
            self._write_settings()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        give_to_unprivileged(self.folder)
        password = self.folder.with_suffix(".password")
        try:
            # A file, since standard input is a pipe that only its owner may open by name.
            password.touch(0o600)
            password.write_text(self.password + "\n")
            give_to_unprivileged(password)
            self._initdb(password)
        finally:
            password.unlink(missing_ok=True)
        self._write_settings()

    def _initdb(self, password: Path) -> None:
        binaries = self.programs or artifacts.postgres_bin()
        command: tuple[str, ...] = (
            str(binaries / "initdb"),
            *("-D", str(self.folder), "-U", OWNER, f"--pwfile={password}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-instructions"),
            "--locale=C",
            *(() if self.programs else ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")),
        )
        if os.geteuid() == 0:
            command = (*unprivileged_prefix((binaries, self.folder)), *command)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerStartError(
                f"initdb of {self.folder} failed: {(done.stderr or done.stdout).strip()[-800:]}"
            )

    def process(self) -> ProcessSpec:
        """How it is started: fast shutdown on a stop, immediate when the supervisor is gone."""
        binaries = self.programs or artifacts.postgres_bin()
        argv = (str(binaries / "postgres"), "-D", str(self.folder))
        return ProcessSpec(
            self.name,
            argv,
            self.log,
            stop_signal=signal.SIGINT,
            stop_timeout_s=20.0,
            death_signal=signal.SIGQUIT,
            reaches=(binaries, self.folder),
        )

    async def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self.dsn("postgres"), connect_timeout=2
            )
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True

    async def initialise(self) -> None:
        """Create the listeners' role and the databases where they are missing."""
        async with await psycopg.AsyncConnection.connect(
            self.dsn("postgres"), autocommit=True
        ) as connection:
            cursor = await connection.execute(
                "select 1 from pg_roles where rolname = %s", (LISTENER_ROLE,)
            )
            verb = sql.SQL("create" if await cursor.fetchone() is None else "alter")
            await connection.execute(
                sql.SQL("{} role {} login password {}").format(
                    verb, sql.Identifier(LISTENER_ROLE), sql.Literal(self.listener_password)
                )
            )
            await connection.execute(
                sql.SQL("grant pg_read_all_data, pg_write_all_data to {}").format(
                    sql.Identifier(LISTENER_ROLE)
                )
            )
            if self.api_password:
                await self._make_api_roles(connection)
            # Of the schema named as the owner, in which rowcast.emit is, it must make no tables.
            await connection.execute("alter role rowcast set search_path = public")
            for database in self.databases:
                cursor = await connection.execute(
                    "select 1 from pg_database where datname = %s", (database,)
                )
                if await cursor.fetchone() is None:
                    await connection.execute(
                        sql.SQL("create database {}").format(sql.Identifier(database))
                    )
                if self.api_password:
                    await self._grant_in(database)

    async def _make_api_roles(self, connection: psycopg.AsyncConnection) -> None:
        roles: tuple[tuple[str, LiteralString], ...] = (
            ("anon", "create role anon nologin noinherit"),
            ("authenticated", "create role authenticated nologin noinherit"),
            ("service_role", "create role service_role nologin bypassrls"),
            (API_ROLE, "create role rowcast_api login noinherit"),
        )
        for role, statement in roles:
            cursor = await connection.execute("select 1 from pg_roles where rolname = %s", (role,))
            if await cursor.fetchone() is None:
                await connection.execute(statement)
        await connection.execute(
            sql.SQL("alter role {} password {}").format(
                sql.Identifier(API_ROLE), sql.Literal(self.api_password)
            )
        )
        await connection.execute("grant anon, authenticated, service_role to rowcast_api")
        await connection.execute("grant pg_read_all_data, pg_write_all_data to service_role")

    async def _grant_in(self, database: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn(database)) as connection:
            await connection.execute(_API_GRANTS)

    def _write_settings(self) -> None:
        values = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            # Loopback is all that is served; a socket's path has a limit that a clone may pass.
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_wal_senders": "20",
            "max_replication_slots": "20",
            "shared_buffers": "128MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **dict(self.settings),
        }
        lines = [f"{key} = '{value}'\n" for key, value in values.items()]
        # The data directory includes this file last, so that it wins and a user's own lines stay.
        conf = self.folder / "rowcast.conf"
        conf.write_text("".join(lines))
        main = self.folder / "postgresql.conf"
        include = "include = 'rowcast.conf'\n"
        text = main.read_text()
        if include not in text:
            main.write_text(text + "\n" + include)
        for path in (conf, main):
            give_to_unprivileged(path)
