"""Emits what is due: the record that asked for it is removed in the transaction that emits it.

Of several routers the one that holds partition 0 of the custom events schedules. Its producer has
one transactional id whoever it is, so taking over ends what the one before has not committed. It
must not emit anything before it has read all that the one before committed: it writes a mark and
reads up to that, since what is committed behind somebody's open transaction is not seen earlier.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Container, Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from events.cluster import Cluster
from events.json_codec import encode
from router.clockwork import settle_definitions
from router.definition import Definition
from router.errors import RoutingStoppedError, ScheduleError
from router.schedule import Due, Timetable

_log = logging.getLogger(__name__)

_GROUP_EVENTS = 500
_LOOK_EVERY_MS = 500
_MARK = encode({"mark": "scheduler"})
_MAX_REQUEST_BYTES = 16 * 1024 * 1024


class Scheduler:
    """The scheduler of one router."""

    def __init__(
        self,
        cluster: Cluster,
        instance: str,
        definitions: Callable[[], Mapping[str, Definition]],
    ) -> None:
        self._cluster = cluster
        self._client_id = f"{cluster.topics.prefix}-scheduler-{instance}"
        self._partition = TopicPartition(cluster.topics.schedules, 0)
        self._sign = TopicPartition(cluster.topics.events, 0)
        self._definitions = definitions
        self._ours = asyncio.Event()

    def follow_assignment(self, held: Container[TopicPartition]) -> None:
        """Schedule as long as the partition that is the sign for it is among those held."""
        if self._sign in held:
            self._ours.set()
        else:
            self._ours.clear()

    async def run(self) -> None:
        """Schedule whenever it is ours, until cancelled; raises RoutingStoppedError."""
        while True:
            await self._ours.wait()
            try:
                await self._lead()
            except ProducerFenced:
                _log.info("another router schedules now")
                # The group tells us soon; were we to ask at once, we would take it back.
                await asyncio.sleep(_LOOK_EVERY_MS / 1_000)
            except KafkaError as error:
                raise RoutingStoppedError(f"schedules were not carried out: {error!r}") from error
            except AssertionError as error:
                # How aiokafka says that its producer failed fatally between two transactions.
                raise RoutingStoppedError("the scheduler's producer had failed") from error

    async def _lead(self) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._cluster.bootstrap,
            client_id=self._client_id,
            transactional_id=f"{self._cluster.topics.prefix}.scheduler",
            max_request_size=_MAX_REQUEST_BYTES,
        )
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._cluster.bootstrap,
            client_id=self._client_id,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await producer.start()
            await consumer.start()
            consumer.assign([self._partition])
            table = Timetable()
            mark = await self._mark(producer)
            while await consumer.position(self._partition) <= mark:
                await _read(consumer, table, _LOOK_EVERY_MS)
            _log.info("%d schedules", len(table))
            settled: Mapping[str, Definition] | None = None
            while self._ours.is_set():
                wanted = self._definitions()
                if settled is not wanted:
                    # By all that we wrote: what is being written anew is not pending meanwhile.
                    while await consumer.position(self._partition) <= mark:
                        await _read(consumer, table, _LOOK_EVERY_MS)
                    due = settle_definitions(table, wanted, _now_ms())
                    settled = wanted
                else:
                    due = table.take_due(_now_ms(), _GROUP_EVENTS)
                mark = max(mark, await self._write(producer, due))
                await _read(consumer, table, _wait_ms(table))
        finally:
            await consumer.stop()
            await producer.stop()

    async def _mark(self, producer: AIOKafkaProducer) -> int:
        """The offset of a record behind all that any scheduler before has written."""
        await producer.begin_transaction()
        written = await producer.send_and_wait(self._partition.topic, None, _MARK, partition=0)
        await producer.commit_transaction()
        return written.offset

    async def _write(self, producer: AIOKafkaProducer, due: Due) -> int:
        """Write in one transaction; returns the offset of the last record among the schedules."""
        if not due.removed and not due.written:
            return -1
        now_ms = _now_ms()
        records: list[tuple[bytes, bytes | None]] = [(key, None) for key in due.removed]
        records += [(one.record_key, one.encode()) for one in due.written]
        await producer.begin_transaction()
        written = [
            await producer.send(self._partition.topic, value, key, partition=0)
            for key, value in records
        ]
        emitted = [
            await producer.send(
                self._sign.topic, event.value, event.key, headers=list(event.headers)
            )
            for event in (scheduled.emitted(now_ms) for scheduled in due.events)
        ]
        await asyncio.gather(*emitted)
        last = [await one for one in written][-1].offset
        await producer.commit_transaction()
        return last


async def _read(consumer: AIOKafkaConsumer, table: Timetable, timeout_ms: int) -> None:
    """Take in what is there; waits for it so long at most."""
    batches = await consumer.getmany(timeout_ms=timeout_ms)
    for records in batches.values():
        for record in records:
            if record.key is None:
                continue
            try:
                table.take(record.offset, record.key, record.value)
            except ScheduleError as error:
                _log.error("the schedule at offset %d is passed over: %s", record.offset, error)


def _wait_ms(table: Timetable) -> int:
    if table.next_ms is None:
        return _LOOK_EVERY_MS
    return min(_LOOK_EVERY_MS, max(0, table.next_ms - _now_ms()))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
