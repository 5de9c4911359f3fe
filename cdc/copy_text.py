r"""COPY's text format: one line to one row of text values.

Pure (https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"). The values are the
output functions' text, as pgoutput sends them, so both go through the same encoders.
"""

from __future__ import annotations

import re

from cdc.pgoutput import Row

_ESCAPE = re.compile(rb"\\(?:([bfnrtv\\])|([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_NAMED = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
}


def split_line(line: bytes) -> Row:
    """The values of a line that ends in a newline; NULL is None."""
    if b"\\" not in line:
        return list(line[:-1].split(b"\t"))
    return [_value(field) for field in line[:-1].split(b"\t")]


def _value(field: bytes) -> bytes | None:
    if b"\\" not in field:
        return field
    return None if field == b"\\N" else _ESCAPE.sub(_unescaped, field)


def _unescaped(match: re.Match[bytes]) -> bytes:
    named, octal, hexadecimal, other = match.groups()
    if named is not None:
        return _NAMED[named]
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    return other
