"""Arrays: from array_out's text to JSON arrays, nulls and nesting kept.

An array whose bounds do not start at 1 (`[0:1]={a,b}`) stays PostgreSQL's text in a string, since
JSON cannot say so (https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO).
"""

from __future__ import annotations

import re

from events.values.numbers import encode_integer
from events.values.text import Encoder, encode_text

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_INTEGERS = re.compile(rb"\{[0-9,-]+\}")


def array_encoder(element: Encoder, delimiter: bytes = b",") -> Encoder:
    """The encoder of arrays of a type; `delimiter` is pg_type.typdelim of the element."""
    separator = re.escape(delimiter)
    token = re.compile(
        rb'(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<plain>[^{}"%b]+)|(?P<mark>[{}]|%b)'
        % (separator, separator),
        re.DOTALL,
    )

    def encode(raw: bytes) -> bytes:
        if raw[:1] != b"{":
            return encode_text(raw)
        out: list[bytes] = []
        for match in token.finditer(raw):
            text = match[0]
            match match.lastgroup:
                case "plain":
                    out.append(b"null" if text == b"NULL" else element(text))
                case "quoted":
                    text = text[1:-1]
                    if b"\\" in text:
                        text = _ESCAPED.sub(rb"\1", text)
                    out.append(element(text))
                case _:
                    out.append(_MARKS.get(text, b","))
        return b"".join(out)

    if element is not encode_integer:
        return encode

    def encode_integers(raw: bytes) -> bytes:
        if _INTEGERS.fullmatch(raw):
            return b"[" + raw[1:-1] + b"]"
        return encode(raw)

    return encode_integers


_MARKS = {b"{": b"[", b"}": b"]"}
