"""bytea as base64, from the hex form (https://www.postgresql.org/docs/current/datatype-binary.html)."""

from __future__ import annotations

from binascii import b2a_base64, unhexlify

from events.values.text import encode_text


def encode_bytea(raw: bytes) -> bytes:
    r"""`\x00ff` -> `"AP8="`; other text (a session with bytea_output escape) as it is."""
    if raw[:2] != b"\\x":
        return encode_text(raw)
    return b'"' + b2a_base64(unhexlify(raw[2:]), newline=False) + b'"'
