from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from psycopg import sql

from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.pool import SandboxPool
from listener_runtime.postgres_effects import ensure_effects
from listener_runtime.settings import HostSettings, PoolSettings, PostgresAccess
from tests.listener_runtime.postgres_calls import request


def pool_settings(processes: int = 2, processes_max: int = 4) -> PoolSettings:
    return PoolSettings(
        image=artifacts.sandbox_image(),
        deno=artifacts.deno(),
        processes=processes,
        processes_max=processes_max,
    )


@asynccontextmanager
async def opened(settings: PoolSettings, host: HostSettings) -> AsyncGenerator[SandboxPool]:
    """A pool, started; closed at the end."""
    pool = SandboxPool(settings, host)
    try:
        await pool.start()
        yield pool
    finally:
        await pool.close()


@pytest.fixture
async def pool() -> AsyncIterator[SandboxPool]:
    """A pool without databases, of at most four processes."""
    async with opened(pool_settings(), HostSettings(secrets={"API_KEY": "hunter22"})) as pool:
        yield pool


@pytest.fixture
async def single() -> AsyncIterator[SandboxPool]:
    """A pool of exactly one process, so that each run follows the one before it in there."""
    async with opened(pool_settings(1, 1), HostSettings()) as pool:
        yield pool


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> str:
    """The owner's address of the database, effects kept in it."""
    dsn = postgres.dsn("shop")
    await ensure_effects(dsn)
    return dsn


@pytest.fixture
async def host(postgres: EmbeddedPostgres, dsn: str) -> AsyncGenerator[HostCalls]:
    del dsn
    host = HostCalls(HostSettings({"shop": PostgresAccess(postgres.listener_dsn("shop"))}))
    yield host
    await host.close()


@pytest.fixture
async def calls(host: HostCalls) -> AsyncGenerator[RunCalls]:
    calls = host.open(request())
    yield calls
    await calls.close()


@pytest.fixture
def table(dsn: str) -> str:
    """A fresh table with a column of most kinds."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "create table {} (id bigint primary key, name text, tags text[], doc jsonb,"
                " total numeric(10,2), at timestamptz, raw bytea, ok boolean)"
            ).format(sql.Identifier(name))
        )
    return name
