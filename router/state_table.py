"""Listeners' small state (`g.kv`), as it stands on `rowcast.kv` and as runs leave it.

Pure. A run's writes are in its own transaction, so they count as soon as it is settled: the next
run of its listener sees them before Kafka has them, since either all that was settled is committed
or the router ends. What is committed is kept with its offset, so that reading one's own record
back, late, never undoes a newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from events.json_codec import encode
from events.run import StateWrite
from router.errors import StateError

_NOTHING: Mapping[str, bytes] = MappingProxyType({})


class StateKey(msgspec.Struct, frozen=True):
    """The key of a record: whose state, and which part of it."""

    tenant: str
    listener: str
    key: str

    def encode(self) -> bytes:
        """The record's key."""
        return encode({"tenant": self.tenant, "listener": self.listener, "key": self.key})


@dataclass(frozen=True, slots=True)
class _Committed:
    offset: int
    value: bytes | None


def decode_state_key(key: bytes) -> StateKey:
    """From a record's key; raises StateError where it is none."""
    try:
        return msgspec.json.decode(key, type=StateKey)
    except msgspec.DecodeError as error:
        raise StateError(f"not a key of a listener's state: {error}") from error


class StateTable:
    """The state of all listeners."""

    def __init__(self) -> None:
        self._committed: dict[tuple[str, str], dict[str, _Committed]] = {}
        self._settled: dict[tuple[str, str], list[tuple[StateWrite, ...]]] = {}

    def of(self, tenant: str, listener: str) -> Mapping[str, bytes]:
        """What a run that begins now reads: JSON by key."""
        owner = (tenant, listener)
        committed, settled = self._committed.get(owner), self._settled.get(owner)
        if not committed and not settled:
            return _NOTHING
        values = {key: one.value for key, one in (committed or {}).items()}
        for writes in settled or ():
            values |= {write.key: write.value for write in writes}
        return {key: value for key, value in values.items() if value is not None}

    def settle(self, tenant: str, listener: str, writes: tuple[StateWrite, ...]) -> None:
        """Count a run's writes as there; `unsettle` follows once they are committed or dropped."""
        self._settled.setdefault((tenant, listener), []).append(writes)

    def unsettle(self, tenant: str, listener: str, writes: tuple[StateWrite, ...]) -> None:
        """Count them no more beside what is committed."""
        owner = (tenant, listener)
        waiting = self._settled.get(owner, [])
        # Identity: two runs may write the same.
        kept = [one for one in waiting if one is not writes]
        if kept:
            self._settled[owner] = kept
        else:
            self._settled.pop(owner, None)

    def commit(self, tenant: str, listener: str, written: Iterable[tuple[StateWrite, int]]) -> None:
        """Take in writes that are committed, each at its offset."""
        for write, offset in written:
            self._take(StateKey(tenant, listener, write.key), offset, write.value)

    def read(self, key: bytes, value: bytes | None, offset: int) -> None:
        """Take in a record as it is read; raises StateError where it is none of ours."""
        found = decode_state_key(key)
        self._take(found, offset, value)
        if value is None:
            # What was removed is remembered only until nothing older can be read any more.
            self._forget(found, offset)

    def _take(self, key: StateKey, offset: int, value: bytes | None) -> None:
        values = self._committed.setdefault((key.tenant, key.listener), {})
        present = values.get(key.key)
        if present is None or present.offset < offset:
            values[key.key] = _Committed(offset, value)

    def _forget(self, key: StateKey, offset: int) -> None:
        values = self._committed[key.tenant, key.listener]
        if values[key.key].offset == offset:
            del values[key.key]
        if not values:
            del self._committed[key.tenant, key.listener]
