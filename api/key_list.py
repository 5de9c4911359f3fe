"""Keys of rows as JSON text, objects joined by commas, taken apart without being read. Pure.

They come so from the database and stand so in events: a number that no float holds stays exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


def first_keys(keys: bytes, bytes_max: int) -> tuple[bytes, bool]:
    """As many as fit, whole ones, and whether they are all."""
    if len(keys) <= bytes_max:
        return keys, True
    return next((part for _, part in _parts(keys, len(keys), bytes_max, stops=True)), b""), False


def split_keys(keys: bytes, rows_max: int, bytes_max: int) -> Iterator[tuple[int, bytes]]:
    """All of them in parts, each with its number of keys; a larger key is a part of its own."""
    return _parts(keys, rows_max, bytes_max, stops=False)


def _parts(
    keys: bytes, rows_max: int, bytes_max: int, *, stops: bool
) -> Iterator[tuple[int, bytes]]:
    part: list[bytes] = []
    size = 0
    for raw in msgspec.json.decode(b"[" + keys + b"]", type=list[msgspec.Raw]):
        key = bytes(raw)
        if size + len(key) + 1 > bytes_max or len(part) == rows_max:
            if part:
                yield len(part), b",".join(part)
            if stops:
                return
            part, size = [], 0
        part.append(key)
        size += len(key) + 1
    if part:
        yield len(part), b",".join(part)
