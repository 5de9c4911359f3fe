"""What calls that run code leave on Kafka: many calls in one transaction, each before its answer.

A call's emissions, the record of its run and its API event are there all or not at all, and its
answer is given once they are. A transaction costs some milliseconds however much it holds, so
while one is committed the next gathers what ends meanwhile. When Kafka fails, the calls of that
group are answered with an error, and the producer begins anew, which ends what it left open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.producer import sender as aiokafka_sender

from api.errors import EffectsLostError, EventsUnavailableError
from events.cluster import Cluster
from events.outgoing_record import OutgoingRecord

_log = logging.getLogger(__name__)

# As the router's group commit, which tells why.
aiokafka_sender.BACKOFF_OVERRIDE = 0.001

_GROUP_CALLS: Final = 500
_GROUP_BYTES: Final = 8 * 1024 * 1024
_REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
_TRANSACTION_MS: Final = 15_000
"""How long consumers wait at most for what a service that was killed left open."""
_COMMIT_S: Final = 10.0
_START_S: Final = 5.0
_RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Waiting:
    records: Sequence[OutgoingRecord]
    offsets: asyncio.Future[list[int]]

    @property
    def size_bytes(self) -> int:
        return sum(record.size_bytes for record in self.records)


class CallCommit:
    """The transactional producer of one HTTP service; `instance` tells it from others."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""

    def start(self) -> None:
        """Take over from an older service of the same instance, behind the scenes."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End; a transaction that is open is left to the next start, which aborts it."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_producer()
        for one in self._waiting:
            if not one.offsets.done():
                one.offsets.set_exception(EffectsLostError("the service ends", is_known=True))
        self._task = None

    def check(self) -> None:
        """Raise EventsUnavailableError where Kafka is known to be away."""
        if self._trouble:
            raise EventsUnavailableError(self._trouble)

    async def commit(self, records: Sequence[OutgoingRecord]) -> list[int]:
        """Have a call's records committed; their offsets, in order.

        Raises EffectsLostError where none of them is on Kafka, or that is not known.
        """
        self.start()
        offsets: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(records, offsets)
        self._waiting.append(waiting)
        self._wake.set()
        try:
            async with asyncio.timeout(_COMMIT_S):
                return await offsets
        except TimeoutError as error:
            is_known = waiting in self._waiting
            if is_known:
                self._waiting.remove(waiting)
            details = f"no answer within {_COMMIT_S:g} s"
            raise EffectsLostError(details, is_known=is_known) from error

    async def _run(self) -> None:
        while True:
            try:
                await self._started()
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._commit_group(self._take())
            except (KafkaError, OSError, TimeoutError, AssertionError, IllegalOperation) as error:
                # The last two are how aiokafka says that its producer had failed before.
                self._refuse_waiting(error)
                await self._stop_producer()
                await asyncio.sleep(_RETRY_S)
            else:
                continue

    def _take(self) -> list[_Waiting]:
        size = 0
        count = 0
        for waiting in self._waiting[:_GROUP_CALLS]:
            size += waiting.size_bytes
            if count and size > _GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit_group(self, group: list[_Waiting]) -> None:
        producer = await self._started()
        committing = False
        try:
            async with asyncio.timeout(_COMMIT_S):
                await producer.begin_transaction()
                written = [
                    [
                        await producer.send(
                            record.topic, record.value, record.key, headers=list(record.headers)
                        )
                        for record in waiting.records
                    ]
                    for waiting in group
                ]
                placed = [[(await one).offset for one in records] for records in written]
                committing = True
                await producer.commit_transaction()
        except BaseException as error:
            details = str(error) or type(error).__name__
            for waiting in group:
                if not waiting.offsets.done():
                    failure = EffectsLostError(details, is_known=not committing)
                    waiting.offsets.set_exception(failure)
            raise
        self._trouble = ""
        for waiting, offsets in zip(group, placed, strict=True):
            if not waiting.offsets.done():
                waiting.offsets.set_result(offsets)

    def _refuse_waiting(self, error: Exception) -> None:
        if not self._trouble:
            _log.warning("Kafka does not take what calls leave, trying again: %r", error)
        self._trouble = str(error) or type(error).__name__
        refused, self._waiting = self._waiting, []
        for waiting in refused:
            if not waiting.offsets.done():
                failure = EffectsLostError(self._trouble, is_known=True)
                waiting.offsets.set_exception(failure)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            prefix = self._cluster.topics.prefix
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._cluster.bootstrap,
                client_id=f"{prefix}-http-{self._instance}",
                transactional_id=f"{prefix}.http.{self._instance}",
                transaction_timeout_ms=_TRANSACTION_MS,
                max_request_size=_REQUEST_BYTES_MAX,
                max_batch_size=256 * 1024,
                metadata_max_age_ms=30_000,
            )
            try:
                async with asyncio.timeout(_START_S):
                    await self._producer.start()
            except BaseException:
                await self._stop_producer()
                raise
            if self._trouble:
                _log.warning("Kafka takes what calls leave again")
                self._trouble = ""
        return self._producer

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(KafkaError, OSError, TimeoutError, IllegalOperation):
            async with asyncio.timeout(1.0):
                await producer.stop()
