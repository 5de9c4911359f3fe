"""json and jsonb, embedded as they are.

PostgreSQL takes documents that many readers refuse: numbers past the range of doubles, lone
surrogates, nesting past a thousand. Embedded, one such value would make the whole record
unreadable, so they are written as their text in a string.
"""

from __future__ import annotations

import orjson

from events.values.text import encode_text

# A record nests the value three deep, an array column or a run's input a little deeper.
_OPEN, _CLOSE = b"[" * 16, b"]" * 16


def encode_json(raw: bytes) -> bytes:
    """The document's own bytes, or a string where readers would refuse it."""
    try:
        orjson.loads(_OPEN + raw + _CLOSE)
    except ValueError:
        return encode_text(raw)
    return raw
