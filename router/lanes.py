"""Order where it was asked for, and none where it was not.

A lane is the deliveries of one listener for one key of one partition: they run one after the
other, while all lanes run beside each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable

from router.delivery import Delivery

Carry = Callable[[Delivery], Awaitable[None]]

MAX_DELIVERIES = 10_000
MAX_BYTES = 128 * 1024 * 1024


class Lanes:
    """Runs deliveries in their lanes as tasks of a group."""

    def __init__(self, tasks: asyncio.TaskGroup, carry: Carry) -> None:
        self._tasks = tasks
        self._carry = carry
        self._lanes: dict[Hashable, deque[Delivery]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._deliveries = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether memory forbids to take more in."""
        return self._deliveries >= MAX_DELIVERIES or self._bytes >= MAX_BYTES

    def add(self, delivery: Delivery) -> None:
        """Run a delivery after those of its lane."""
        self._deliveries += 1
        self._bytes += len(delivery.event.raw)
        if delivery.definition.ordering == "none":
            self._start(self._run(delivery))
            return
        name = (delivery.definition.name, delivery.topic, delivery.partition, delivery.key)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = deque((delivery,))
            self._start(self._run_lane(name, lane))
        else:
            lane.append(delivery)

    def cancel(self) -> None:
        """Abandon everything that runs."""
        for task in self._running:
            task.cancel()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, delivery: Delivery) -> None:
        try:
            await self._carry(delivery)
        finally:
            self._deliveries -= 1
            self._bytes -= len(delivery.event.raw)

    async def _run_lane(self, name: Hashable, lane: deque[Delivery]) -> None:
        while lane:
            await self._run(lane[0])
            lane.popleft()
        del self._lanes[name]
