"""A circuit breaker: a server that does not answer is left alone for a while. Pure.

After so many failures in a row calls are refused at once; when the pause is over one call at a
time goes through, and the first that is answered closes the circuit again.
"""

from __future__ import annotations


class Circuit:
    """`failures` in a row open it, for `pause_s`; times are monotonic seconds."""

    __slots__ = ("_failed", "_failures", "_open_until_s", "_pause_s", "_probe_until_s")

    def __init__(self, failures: int, pause_s: float) -> None:
        self._failures = failures
        self._pause_s = pause_s
        self._failed = 0
        self._open_until_s = 0.0
        self._probe_until_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """0 where a call may go, else the seconds until one may.

        Whoever is let through while it is open is the probe: the others wait for its outcome.
        """
        if self._failed < self._failures:
            return 0.0
        until_s = max(self._open_until_s, self._probe_until_s)
        if now_s < until_s:
            return until_s - now_s
        self._probe_until_s = now_s + self._pause_s
        return 0.0

    def succeeded(self) -> None:
        """A call was answered."""
        self._failed = 0
        self._probe_until_s = 0.0

    def failed(self, now_s: float) -> None:
        """A call was not answered."""
        self._failed += 1
        self._probe_until_s = 0.0
        if self._failed >= self._failures:
            self._open_until_s = now_s + self._pause_s
