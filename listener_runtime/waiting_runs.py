"""Runs that wait for a process: one queue a listener, served fairly.

The listener with the fewest runs under way goes first, and none may hold more than its share of
processes. Runs of a listener that reuses its interpreter leave the queue together, as one frame.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Final

from events.run import RunOutcome, RunRequest
from listener_runtime.sandbox_process import STANDARD_MEMORY_MB, WarmKey

MAX_BATCH: Final = 64
_MAX_BATCH_BYTES: Final = 4 * 1024 * 1024


class WaitingRun:
    """A run that waits; `is_alone` keeps it out of frames with others."""

    def __init__(self, request: RunRequest, *, is_alone: bool = False) -> None:
        self.request = request
        self.is_alone = is_alone
        self.outcome: asyncio.Future[RunOutcome] = asyncio.get_running_loop().create_future()

    @property
    def queue(self) -> tuple[str, str]:
        """What tells its queue from the others."""
        return self.request.tenant, self.request.listener

    @property
    def memory_mb(self) -> int:
        """The size of the process it needs: the standard one, or a power of two above it."""
        size_mb = STANDARD_MEMORY_MB
        while size_mb < self.request.memory_mb:
            size_mb *= 2
        return size_mb

    @property
    def warm_key(self) -> WarmKey | None:
        """What a process must be warm for to be of use; None where it must be pristine."""
        one = self.request
        return (one.listener, one.code, one.modules) if one.reuse else None

    def alone(self) -> WaitingRun:
        """The same run, for the same waiter, not to be put into a frame with others."""
        again = WaitingRun(self.request, is_alone=True)
        again.outcome = self.outcome
        return again

    def settle(self, outcome: RunOutcome) -> None:
        """Give the outcome to who waits for it."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class WaitingRuns:
    """All that wait. `share` is how many frames of one listener may be under way at once."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._queues: dict[tuple[str, str], deque[WaitingRun]] = {}
        self._under_way: Counter[tuple[str, str]] = Counter()

    def add(self, run: WaitingRun) -> None:
        """Let a run wait."""
        self._queues.setdefault(run.queue, deque()).append(run)

    def withdraw(self, run: WaitingRun) -> None:
        """Let a run wait no more, if it still does."""
        queue = self._queues.get(run.queue)
        if queue is not None and run in queue:
            queue.remove(run)
            self._drop_if_empty(run.queue)

    def in_turn(self) -> Iterator[WaitingRun]:
        """Whose turn it is, one after the other; each may be taken before the next is asked for."""
        passed_over: set[tuple[str, str]] = set()
        while True:
            ready = [
                name
                for name in self._queues
                if name not in passed_over and self._under_way[name] < self._share
            ]
            name = min(ready, key=lambda one: self._under_way[one], default=None)
            if name is None:
                return
            first = self._queues[name][0]
            yield first
            if self._queues.get(name, (None,))[0] is first:
                passed_over.add(name)

    def take(self, first: WaitingRun) -> list[WaitingRun]:
        """Take the first of a queue out, with those that may go in one frame with it."""
        name = first.queue
        queue = self._queues[name]
        taken = [queue.popleft()]
        size_bytes = len(first.request.event)
        while first.request.reuse and not first.is_alone and queue and len(taken) < MAX_BATCH:
            following = queue[0]
            size_bytes += len(following.request.event)
            if not _is_alike(first, following) or size_bytes > _MAX_BATCH_BYTES:
                break
            taken.append(queue.popleft())
        self._drop_if_empty(name)
        self._under_way[name] += 1
        return taken

    def end(self, runs: Sequence[WaitingRun]) -> None:
        """A frame is no longer under way."""
        name = runs[0].queue
        self._under_way[name] -= 1
        if self._under_way[name] <= 0:
            del self._under_way[name]

    def could_begin(self) -> list[WaitingRun]:
        """Those who could begin at once, were processes there for them."""
        return [
            run
            for name, queue in self._queues.items()
            for run in list(queue)[: max(0, self._share - self._under_way[name])]
        ]

    def refuse(self, error: str, tenant: str | None = None) -> None:
        """Give all that wait the same failure, or all of one tenant."""
        for name in [one for one in self._queues if tenant in (None, one[0])]:
            for run in self._queues.pop(name):
                run.settle(RunOutcome("failed", 0.0, error))

    def _drop_if_empty(self, name: tuple[str, str]) -> None:
        if not self._queues[name]:
            del self._queues[name]


def _is_alike(first: WaitingRun, other: WaitingRun) -> bool:
    """Whether two runs of a listener are of the same version of it."""
    one, two = first.request, other.request
    return not other.is_alone and (
        one.code,
        one.modules,
        one.timeout_s,
        one.cpu_s,
        one.memory_mb,
        one.reuse,
    ) == (
        two.code,
        two.modules,
        two.timeout_s,
        two.cpu_s,
        two.memory_mb,
        two.reuse,
    )
