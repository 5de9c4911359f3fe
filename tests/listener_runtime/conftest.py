from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra import artifacts
from listener_runtime.pool import SandboxPool
from listener_runtime.settings import HostSettings, PoolSettings


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
