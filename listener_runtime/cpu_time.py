"""The CPU time of a sandbox process, looked at from outside, and its limit.

All threads of the process count, so that work handed to V8's own threads does too; what a run waits
does not. The kernel keeps such a clock for every process: clock_getcpuclockid(3).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, Self

_CPUCLOCK_SCHED: Final = 2
_SHORTEST_LOOK_S: Final = 0.02


def cpu_time_s(pid: int) -> float:
    """Seconds of CPU time that a process has used; raises OSError where there is none."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


class CpuWatch:
    """Ends a deadline once more than `limit_s` was used since the start or the last `renew`.

    `used_s` reads the process's clock. Looked at as rarely as a process that keeps every core busy
    allows: a run that ends well within its limit costs one timer.
    """

    def __init__(
        self, used_s: Callable[[], float], limit_s: float, deadline: asyncio.Timeout
    ) -> None:
        self.is_exceeded = False
        self._used_s = used_s
        self._limit_s = limit_s
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._cores = os.cpu_count() or 1
        self._since_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Count from here on."""
        self.renew()
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def renew(self) -> None:
        """Count anew."""
        try:
            self._since_s = self._used_s()
        except OSError:
            # The process has ended, which shows where its answer is waited for.
            return

    def _look(self) -> None:
        try:
            left_s = self._limit_s - (self._used_s() - self._since_s)
        except OSError:
            return
        if left_s > 0:
            wait_s = max(left_s / self._cores, _SHORTEST_LOOK_S)
            self._timer = self._loop.call_later(wait_s, self._look)
        elif not self._deadline.expired():
            self.is_exceeded = True
            self._deadline.reschedule(self._loop.time())
