"""Answers of third-party APIs that are given again for a while. Pure: the time is given.

A shared cache's part of RFC 9111, as far as a definition asks for it: answers to GET with status
200, for the definition's time or less where the answer says so; none that says `no-store`,
`no-cache` or `private`, varies by everything, or sets a cookie. The key is all that the other
server is sent, so that whatever it varies by is in it. Bounded by bytes; what was used longest
ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from api.forwarded_headers import HeaderList, header

_BYTES_MAX: Final = 16 * 1024 * 1024
_ENTRY_BYTES_MAX: Final = 2 * 1024 * 1024
_CONDITIONS: Final = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
_PER_CALL: Final = frozenset(("idempotency-key", "prefer"))
_ENTRY_COST: Final = 512


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """Headers as they came; times are monotonic seconds."""

    status: int
    headers: HeaderList
    body: bytes
    kept_s: float
    until_s: float


@dataclass(frozen=True, slots=True)
class CacheKey:
    """All that an answer depends on; `caller` is empty where all share it."""

    api: str
    version: int
    url: str
    headers: HeaderList
    caller: str


def cache_key(
    *, api: str, version: int, url: str, sent: HeaderList, asked: str, caller: str | None
) -> CacheKey | None:
    """The key of a GET; `asked` is the caller's Cache-Control, `caller` None where nobody is known.

    None where the call is to be answered anew.
    """
    if caller is None or {"no-store", "no-cache"} & _directives(asked).keys():
        return None
    if any(name in _CONDITIONS for name, _ in sent):
        return None
    kept = tuple((name, value) for name, value in sent if name not in _PER_CALL)
    return CacheKey(api, version, url, kept, caller)


def fresh_s(status: int, headers: Sequence[tuple[str, str]], ttl_s: float) -> float:
    """How many seconds an answer may be given again; 0 where it may not."""
    said = _directives(header(headers, "cache-control"))
    varies_by_all = "*" in header(headers, "vary")
    if status != 200 or varies_by_all or any(name == "set-cookie" for name, _ in headers):
        return 0.0
    if {"no-store", "no-cache", "private"} & said.keys():
        return 0.0
    age_s = _seconds(header(headers, "age")) or 0.0
    for name in ("s-maxage", "max-age"):
        if name in said:
            lifetime_s = _seconds(said[name])
            return 0.0 if lifetime_s is None else max(0.0, min(ttl_s, lifetime_s - age_s))
    return ttl_s


class ResponseCache:
    """All that is kept."""

    def __init__(self, bytes_max: int = _BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[CacheKey, CachedAnswer] = OrderedDict()

    def get(self, key: CacheKey, now_s: float) -> CachedAnswer | None:
        """What is kept and fresh."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found.until_s <= now_s:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found

    def keep(self, key: CacheKey, answer: CachedAnswer) -> None:
        """Keep an answer, unless it is too large for that."""
        size = _size(key, answer)
        if size > min(_ENTRY_BYTES_MAX, self._bytes_max):
            return
        self._drop(key)
        self._kept[key] = answer
        self._bytes += size
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: CacheKey) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= _size(key, gone)


def _size(key: CacheKey, answer: CachedAnswer) -> int:
    texts = sum(len(name) + len(value) for name, value in (*answer.headers, *key.headers))
    return len(answer.body) + texts + len(key.url) + _ENTRY_COST


def _directives(value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in value.split(","):
        name, _, argument = part.strip().partition("=")
        if name:
            found[name.strip().lower()] = argument.strip().strip('"')
    return found


def _seconds(text: str) -> float | None:
    text = text.strip()
    return float(text[:12]) if text.isascii() and text.isdigit() else None
