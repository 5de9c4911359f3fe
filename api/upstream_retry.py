"""When a call on a third-party API is tried again, and after how long. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

from api.third_party_definition import Retries

_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
TRIED_AGAIN: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that may be another one the next time."""

NOT_ANSWERING: Final = frozenset((502, 503, 504))
"""Statuses by which a server, or what is before it, says that it is down."""


def may_repeat(method: str, has_key: bool) -> bool:
    """Whether a call that may have been carried out can be sent again without doing it twice."""
    return has_key or method in _IDEMPOTENT


def backoff_s(retries: Retries, failures: int, chance: float) -> float:
    """Seconds to wait after so many failures (from 1): `chance`, 0 to 1, of the whole wait.

    Full jitter, so that callers who failed together do not come back together.
    """
    try:
        wait_s = retries.backoff_s * retries.factor ** (failures - 1)
    except OverflowError:
        wait_s = retries.max_s
    return min(wait_s, retries.max_s) * chance


def retry_after_s(value: str, now_s: float) -> float | None:
    """The seconds that a Retry-After asks for (RFC 9110, 10.2.3); `now_s` is Unix time.

    None where it says nothing that can be read.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
