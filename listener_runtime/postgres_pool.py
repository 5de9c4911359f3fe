"""The connections to one source: few, shared by all runs, made when they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from listener_runtime.errors import HostCallError
from listener_runtime.postgres_session import PostgresSession

CONNECTIONS_MAX: Final = 16


class PostgresPool:
    """At most `size` connections; who waits for one is bounded by its run's time."""

    def __init__(self, source: str, dsn: str, size: int = CONNECTIONS_MAX) -> None:
        self._source = source
        self._dsn = dsn
        self._free = asyncio.Semaphore(size)
        self._idle: list[PostgresSession] = []
        self._closed = False

    async def acquire(self, owner: str) -> PostgresSession:
        """A session for a run, best the one that it used last.

        Raises HostCallError where the server is not reached.
        """
        await self._free.acquire()
        try:
            while self._idle:
                session = self._pick(owner)
                if session.take_over(owner):
                    return session
                await session.end()
            session = await PostgresSession.connect(self._source, self._dsn)
        except BaseException:
            self._free.release()
            raise
        session.owner = owner
        return session

    async def release(self, session: PostgresSession) -> None:
        """Give a session back; one that is not idle is ended."""
        self._free.release()
        if session.is_idle and not self._closed:
            self._idle.append(session)
        else:
            await session.end()

    @asynccontextmanager
    async def session(self, owner: str) -> AsyncGenerator[PostgresSession]:
        """A session for the length of a block."""
        session = await self.acquire(owner)
        try:
            yield session
        finally:
            await self.release(session)

    async def close(self) -> None:
        """End all that are idle, and from now on all that are given back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().end()

    def _pick(self, owner: str) -> PostgresSession:
        if self._closed:
            raise HostCallError("the sandbox is being stopped")
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index].owner == owner:
                return self._idle.pop(index)
        return self._idle.pop()
