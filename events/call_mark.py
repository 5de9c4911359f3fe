"""The mark by which a statement of the data API is known for its own, in MongoDB's profiler.

`rowcast/<call id>/<ms since 1970>/<signature>`, sent as the statement's comment: the rows of such a
call are told of by the data API itself. Signed, so that nobody hides a read by writing one. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

MAX_AGE_MS: Final = 3_600_000
"""How long a statement may run, and clocks differ, from when its mark was made."""

_PREFIX: Final = "rowcast"
_PURPOSE: Final = b"a data API's statement, version 1"


def mark_call(call_id: str, secret: str, now_ms: int) -> str:
    """The comment of a call's statements."""
    signed = f"{call_id}/{now_ms}"
    return f"{_PREFIX}/{signed}/{_signature(signed, secret)}"


def is_marked(comment: object, secret: str, at_ms: int) -> bool:
    """Whether a statement that ran at a time bears a mark that we made for it."""
    if not isinstance(comment, str) or not comment.startswith(f"{_PREFIX}/"):
        return False
    signed, _, signature = comment.removeprefix(f"{_PREFIX}/").rpartition("/")
    made_ms = signed.rpartition("/")[2]
    if not made_ms.isascii() or not made_ms.isdecimal() or len(made_ms) > 18:
        return False
    if abs(at_ms - int(made_ms)) > MAX_AGE_MS:
        return False
    return hmac.compare_digest(_signature(signed, secret).encode(), signature.encode())


def _signature(text: str, secret: str) -> str:
    key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
    return hmac.digest(key, text.encode(), hashlib.sha256).hex()[:32]
