"""Keeping a reader of reads going, beside the capture of changes: what fails is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cdc.errors import CaptureError, FencedError

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Backoff:
    """How long to wait after each failure; begins anew after a try that lasted longer than that."""

    pauses_s: tuple[float, ...]
    failures: int = 0

    def after(self, lasted_s: float) -> float:
        """The pause (s) after a try that lasted so long and failed."""
        if lasted_s > self.pauses_s[-1]:
            self.failures = 0
        pause_s = self.pauses_s[min(self.failures, len(self.pauses_s) - 1)]
        self.failures += 1
        return pause_s


async def keep_reading(
    read: Callable[[], Awaitable[None]],
    what: str,
    backoff: Backoff,
    failures: type[Exception],
    *,
    stop: asyncio.Event,
) -> None:
    """Read until `stop` is set; `failures` are those of the database.

    Whatever fails is logged and tried again; another capture that takes over ends it.
    """
    while not stop.is_set():
        began_s = time.monotonic()
        try:
            await read()
        except FencedError as error:
            _log.info("%s", error)
            return
        except (CaptureError, failures) as error:
            pause_s = backoff.after(time.monotonic() - began_s)
            _log.warning("%s wait %g s: %s", what, pause_s, str(error).strip())
            await pause(stop, pause_s)


async def pause(stop: asyncio.Event, pause_s: float) -> None:
    """Wait for a while, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), pause_s)
