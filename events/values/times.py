"""Timestamps in ISO 8601 with microseconds; what ISO 8601 cannot hold stays PostgreSQL's text.

That is BC, years past 9999 and infinities. A timestamptz is in UTC and ends in Z.
"""

from __future__ import annotations

_SPACE = 32
_UPPER_C = 67


def encode_timestamp(raw: bytes) -> bytes:
    """`2026-11-23 08:17:59.5` -> `"2026-11-23T08:17:59.500000"`."""
    if len(raw) >= 19 and raw[10] == _SPACE and raw[-1] != _UPPER_C:
        fraction = (raw[20:] + b"000000")[:6]
        return b'"' + raw[:10] + b"T" + raw[11:19] + b"." + fraction + b'"'
    return b'"' + raw + b'"'


def encode_timestamptz(raw: bytes) -> bytes:
    """`2026-11-23 08:17:59+00` -> `"2026-11-23T08:17:59.000000Z"`."""
    if len(raw) == 29 and raw[10] == _SPACE and raw.endswith(b"+00"):
        return b'"%bT%bZ"' % (raw[:10], raw[11:26])
    if len(raw) >= 22 and raw[10] == _SPACE and raw.endswith(b"+00"):
        fraction = (raw[20:-3] + b"000000")[:6]
        return b'"' + raw[:10] + b"T" + raw[11:19] + b"." + fraction + b'Z"'
    return b'"' + raw + b'"'
