"""A cache over the Redis protocol: Redis, Valkey and what else speaks it.

Keys are `<prefix>:cache:<tenant>:<key>`, the tenant's colons escaped, so that tenants never meet.
The address may hold a password and is in no message.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from listener_runtime.errors import HostCallError, SandboxError

_SCAN_COUNT: Final = 1_000
_TIMEOUT_S: Final = 5.0
_GLOB: Final = re.compile(r"[\\*?\[\]^-]")


class RedisCache:
    """A Cache (see listener_runtime.cache) on a server; raises SandboxError for a wrong address."""

    def __init__(self, url: str, prefix: str) -> None:
        from_url = cast("Callable[..., Redis]", Redis.from_url)
        try:
            self._client = from_url(
                url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
            )
        except ValueError as error:
            raise SandboxError(
                "found an address in [listeners] cache that is none; expected redis://host:port/0, "
                "rediss:// or unix://"
            ) from error
        self._prefix = prefix

    async def get(self, tenant: str, key: str) -> bytes | None:
        """See Cache."""
        return cast("bytes | None", await self._do("GET", self._name(tenant, key)))

    async def set(self, tenant: str, key: str, value: bytes, ttl_s: float | None) -> None:
        """See Cache."""
        options = () if ttl_s is None else ("PX", max(1, round(ttl_s * 1_000)))
        await self._do("SET", self._name(tenant, key), value, *options)

    async def delete(self, tenant: str, key: str) -> int:
        """See Cache."""
        return cast("int", await self._do("DEL", self._name(tenant, key)))

    async def delete_prefix(self, tenant: str, prefix: str) -> int:
        """See Cache."""
        pattern = _GLOB.sub(lambda found: f"\\{found[0]}", self._name(tenant, prefix)) + "*"
        deleted = 0
        cursor: object = b"0"
        while True:
            answer = await self._do("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT)
            cursor, names = cast("tuple[object, list[bytes]]", answer)
            if names:
                deleted += cast("int", await self._do("DEL", *names))
            if cursor in (0, b"0"):
                return deleted

    async def close(self) -> None:
        """See Cache."""
        await self._client.aclose()

    async def _do(self, *command: object) -> object:
        async with _reached():
            execute = cast("Callable[..., Awaitable[object]]", self._client.execute_command)
            return await execute(*command)

    def _name(self, tenant: str, key: str) -> str:
        return f"{self._prefix}:cache:{tenant.replace('%', '%25').replace(':', '%3A')}:{key}"


@asynccontextmanager
async def _reached() -> AsyncGenerator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise HostCallError(
            f"the cache was not reached or refused ({type(error).__name__}); look at the server "
            "that [listeners] cache in rowcast.toml names"
        ) from error
