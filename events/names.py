"""One segment of a topic name or event type, made from any database name and read back.

Kafka allows `[A-Za-z0-9._-]` in a topic, and a dot separates our segments. Any other character
of a name is written as `-xHH` for each of its UTF-8 bytes; a hyphen that stands before an `x`
is escaped too, so that two names never meet in one segment.
"""

from __future__ import annotations

import re

from events.errors import InvalidNameError

_PLAIN = re.compile(r"[A-Za-z0-9_]+(?:-(?!x)[A-Za-z0-9_]*)*")
_ESCAPED_BYTE = re.compile(rb"-x([0-9A-F]{2})")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")


def encode_segment(name: str) -> str:
    """The segment that stands for a name, e.g. `order lines` -> `order-x20lines`.

    Raises InvalidNameError for an empty name.
    """
    if not name:
        raise InvalidNameError("found an empty name, expected at least one character")
    if _PLAIN.fullmatch(name):
        return name
    out: list[str] = []
    for index, char in enumerate(name):
        plain = char.isascii() and (char.isalnum() or char in "_-")
        if plain and not (char == "-" and name[index + 1 : index + 2] == "x"):
            out.append(char)
        else:
            out.extend(f"-x{byte:02X}" for byte in char.encode())
    return "".join(out)


def decode_segment(segment: str) -> str:
    """The name that a segment stands for.

    Raises InvalidNameError where no name gives this segment.
    """
    if not _SEGMENT.fullmatch(segment):
        raise InvalidNameError(f"found the segment {segment!r}, expected [A-Za-z0-9_-]+")
    raw = _ESCAPED_BYTE.sub(lambda m: bytes([int(m[1], 16)]), segment.encode())
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidNameError(f"the segment {segment!r} is not UTF-8 inside") from error
    if encode_segment(name) != segment:
        raise InvalidNameError(f"the segment {segment!r} is not how any name is written")
    return name
