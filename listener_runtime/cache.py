"""`g.cache`: what a listener asks of it, and the one that is embedded where none is set.

Pure. The embedded cache is of one process, with bounded memory: the entry that was used longest
ago goes first, and those whose time is over are never given. Keys of tenants never meet. Whatever
is in a cache may be gone at any time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from events.json_codec import JsonObject, JsonValue, encode
from listener_runtime.errors import HostCallError
from listener_runtime.guest_key import checked_key

MAX_VALUE_BYTES: Final = 1024 * 1024
MAX_TTL_S: Final = 366 * 86_400
EMBEDDED_BYTES: Final = 64 * 1024 * 1024
_MAX_KEY_CHARS: Final = 500
_ENTRY_BYTES: Final = 300
"""About what an entry takes beside its key and value."""


class Cache(Protocol):
    """Values by tenant and key; raises HostCallError where it is not reached."""

    async def get(self, tenant: str, key: str) -> bytes | None:
        """The value of a key, None where there is none."""
        ...

    async def set(self, tenant: str, key: str, value: bytes, ttl_s: float | None) -> None:
        """Set a value, gone after a time where one is given."""
        ...

    async def delete(self, tenant: str, key: str) -> int:
        """Delete a key; returns how many there were."""
        ...

    async def delete_prefix(self, tenant: str, prefix: str) -> int:
        """Delete the keys that begin with a text; returns how many there were."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class Get(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of cache.get."""

    key: str


class Set(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of cache.set."""

    key: str
    value: object
    ttl_s: float | None = None


class Delete(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of cache.delete: one of the two."""

    key: str | None = None
    prefix: str | None = None


async def get(cache: Cache, tenant: str, given: Get) -> bytes | None:
    """Answer cache.get."""
    return await cache.get(tenant, _checked(given.key))


async def set_value(cache: Cache, tenant: str, given: Set, value: JsonValue) -> None:
    """Answer cache.set."""
    key = _checked(given.key)
    if given.ttl_s is not None and not 0.001 <= given.ttl_s <= MAX_TTL_S:
        raise HostCallError(
            f"cache.set: found ttl = {given.ttl_s} s, expected 0.001 to {MAX_TTL_S:,}, a year"
        )
    try:
        encoded = encode(value)
    except (TypeError, RecursionError) as error:
        raise HostCallError(f"cache.set: found a value that JSON cannot hold: {error}") from error
    if len(encoded) > MAX_VALUE_BYTES:
        raise HostCallError(
            f"cache.set: found a value of {len(encoded):,} bytes, expected {MAX_VALUE_BYTES:,} at "
            "most"
        )
    await cache.set(tenant, key, encoded, given.ttl_s)


async def delete(cache: Cache, tenant: str, given: Delete) -> JsonObject:
    """Answer cache.delete."""
    match given:
        case Delete(key=str(key), prefix=None):
            return {"deleted": await cache.delete(tenant, _checked(key))}
        case Delete(key=None, prefix=str(prefix)):
            return {"deleted": await cache.delete_prefix(tenant, _checked(prefix))}
        case _:
            raise HostCallError("cache.delete: expected either a key or prefix=")


def _checked(key: str) -> str:
    return checked_key("g.cache", key, _MAX_KEY_CHARS)


class EmbeddedCache:
    """A Cache in this process; `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float], limit_bytes: int = EMBEDDED_BYTES) -> None:
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[tuple[str, str], tuple[bytes, float | None]] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return self._size_bytes

    async def get(self, tenant: str, key: str) -> bytes | None:
        """See Cache."""
        entry = self._entries.get((tenant, key))
        if entry is None:
            return None
        value, until_s = entry
        if until_s is not None and until_s <= self._clock():
            self._drop((tenant, key))
            return None
        self._entries.move_to_end((tenant, key))
        return value

    async def set(self, tenant: str, key: str, value: bytes, ttl_s: float | None) -> None:
        """See Cache."""
        self._drop((tenant, key))
        until_s = None if ttl_s is None else self._clock() + ttl_s
        self._entries[tenant, key] = (value, until_s)
        self._size_bytes += _size_bytes((tenant, key), value)
        while self._size_bytes > self._limit_bytes:
            self._drop(next(iter(self._entries)))

    async def delete(self, tenant: str, key: str) -> int:
        """See Cache."""
        was_there = await self.get(tenant, key) is not None
        self._drop((tenant, key))
        return int(was_there)

    async def delete_prefix(self, tenant: str, prefix: str) -> int:
        """See Cache."""
        found = [one for one in self._entries if one[0] == tenant and one[1].startswith(prefix)]
        return sum([await self.delete(*one) for one in found])

    async def close(self) -> None:
        """See Cache."""
        self._entries.clear()
        self._size_bytes = 0

    def _drop(self, name: tuple[str, str]) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._size_bytes -= _size_bytes(name, entry[0])


def _size_bytes(name: tuple[str, str], value: bytes) -> int:
    return _ENTRY_BYTES + len(name[0]) + 4 * len(name[1]) + len(value)
