"""A position in PostgreSQL's write-ahead log.

A type of its own, so that a byte position is never taken for an offset or a count
(https://www.postgresql.org/docs/current/datatype-pg-lsn.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_LIMIT = 1 << 64


@dataclass(frozen=True, slots=True, order=True)
class Lsn:
    """Bytes since the start of the log, 0 to 2**64 - 1."""

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < _LIMIT:
            raise ValueError(f"found {self.value}, expected a position of 0 to 2**64 - 1")

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """From PostgreSQL's text, e.g. `0/16B3748`."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"found the position {text!r}, expected hex/hex, e.g. 0/16B3748")
        return cls((int(match[1], 16) << 32) | int(match[2], 16))

    def __str__(self) -> str:
        """PostgreSQL's text."""
        return f"{self.value >> 32:X}/{self.value & 0xFFFFFFFF:X}"

    @property
    def fixed_width(self) -> str:
        """16 hex digits, which sort as the positions do; the form in event ids."""
        return f"{self.value:016X}"
