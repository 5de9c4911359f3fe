"""Addresses of databases as they may be shown: without the password. Pure."""

from __future__ import annotations

import re
from typing import Final

_IN_URL: Final = re.compile(r"(?P<before>://[^/@:?#]*):.*@", re.DOTALL)
_IN_QUERY: Final = re.compile(r"(?P<before>[?&](?:password|sslpassword)=)[^&#]*", re.IGNORECASE)
_IN_WORDS: Final = re.compile(
    r"(?P<before>\b(?:password|sslpassword)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s']+)", re.IGNORECASE
)


def without_password(address: str) -> str:
    """A URL or PostgreSQL's `key=value` words, `***` in place of what is secret."""
    if "://" in address:
        shown = _IN_URL.sub(r"\g<before>:***@", address, count=1)
        return _IN_QUERY.sub(r"\g<before>***", shown)
    return _IN_WORDS.sub(r"\g<before>***", address)
