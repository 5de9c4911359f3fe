"""Booleans, integers, floats and numeric.

Integers and finite floats are JSON numbers with all their digits; whoever reads them into
doubles loses digits past 2**53. numeric is a string, since no JSON reader keeps its scale.
"""

from __future__ import annotations


def encode_boolean(raw: bytes) -> bytes:
    """`t` or `f`."""
    return b"true" if raw == b"t" else b"false"


def encode_integer(raw: bytes) -> bytes:
    """smallint, integer, bigint and oid: their text is JSON already."""
    return raw


def encode_float(raw: bytes) -> bytes:
    """Real and double precision; `NaN`, `Infinity` and `-Infinity` as strings."""
    if raw[-1:] in b"yN":
        return b'"' + raw + b'"'
    # Readers take `-0` for an integer and lose the sign.
    return raw if raw != b"-0" else b"-0.0"
