"""How long a failed run waits before it is tried again."""

from __future__ import annotations

from router.definition import Retry

_SPREAD = 0.25


def backoff_s(retry: Retry, failures: int, chance: float) -> float:
    """Seconds to wait after so many failures (from 1); `chance`, 0 to 1, spreads them by 25 %."""
    try:
        wait_s = retry.backoff_s * retry.factor ** (failures - 1)
    except OverflowError:
        wait_s = retry.max_s
    return min(wait_s, retry.max_s) * (1 - _SPREAD + 2 * _SPREAD * chance)
