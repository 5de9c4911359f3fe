"""A text frame of RFC 6455, made once and sent to any number of clients as it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_FINAL_TEXT = 0x81


@dataclass(frozen=True, slots=True)
class Frame:
    """`payload` is UTF-8; `wire` is what a server sends: a header, no mask, the payload."""

    payload: bytes
    wire: bytes

    @classmethod
    def of(cls, payload: bytes) -> Frame:
        """The one frame of a message."""
        size = len(payload)
        if size < 126:
            header = bytes((_FINAL_TEXT, size))
        elif size < 65_536:
            header = struct.pack("!BBH", _FINAL_TEXT, 126, size)
        else:
            header = struct.pack("!BBQ", _FINAL_TEXT, 127, size)
        return cls(payload, header + payload)

    @property
    def size_bytes(self) -> int:
        """Of the payload."""
        return len(self.payload)
