"""API events on their way to Kafka: a write's event before its answer, a read's right after.

One task sends what waits, in groups, and waits for Kafka's word before it sends the next; so
events are never more than one group out of hand, and what Kafka does not take is sent again. What
waits is bounded: when Kafka stays away writes are refused at once, or their events are spilled to
disk where that is asked for, and reads are refused as soon as the buffer is full. What is on disk
is in the queue too, at its place, so that the order of sending is that of the calls. An event that
is sent again has the same id. One that is larger than Kafka takes is shortened, with a mark that
says so, or refused where somebody waits who must know; it never stops those behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder

from api.errors import EventsUnavailableError, EventTooLargeError
from api.event_spill import EventSpill, SpillError
from api.read_event import TopicEvent
from api.shortened_event import event_bytes, fitting
from events.cluster import Cluster
from events.event import OutgoingEvent
from events.partition import partition_for_key

_log = logging.getLogger(__name__)

TopicMaking: TypeAlias = Callable[[Collection[str]], Awaitable[None]]
"""Makes the topics that are missing; raises where Kafka refuses."""

_GROUP_MAX: Final = 2_000
_GATHER_S: Final = 0.025
_BATCH_BYTES: Final = 1_000_000
_REQUEST_TIMEOUT_MS: Final = 5_000
_CLOSE_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 0.5


@dataclass(slots=True)
class _Waiting:
    event: OutgoingEvent
    taken: asyncio.Future[None] | None
    topic: str
    spilled: bool = False
    sent: bool = False
    whole: bool = False
    """Whether it is better refused than shortened."""
    refused_bytes: int = 0


class _NotTakenError(Exception):
    """Events that neither Kafka nor the disk has taken; they go on to wait."""

    def __init__(self, why: str, waiting: list[_Waiting]) -> None:
        super().__init__(why)
        self.why = why
        self.waiting = waiting


class _TooLargeError(Exception):
    """Batches that Kafka did not take for their size."""

    def __init__(self, batches: list[list[_Waiting]]) -> None:
        super().__init__("larger than Kafka takes")
        self.batches = batches


class CallJournal:
    """Sends events to `topic`, or another named with the event, which `make_topics` makes first.

    Started before the first call, closed after the last.
    `buffered_bytes` is what may wait for Kafka; `durable_s` how long a write waits for its event.
    `spill` keeps what must not be lost: the events of what is done already, of writes where
    `spills_writes`, and what waits at the end.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        buffered_bytes: int = 32 * 1024 * 1024,
        durable_s: float = 4.0,
        make_topics: TopicMaking | None = None,
        spill: EventSpill | None = None,
        spills_writes: bool = False,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._buffered_bytes = buffered_bytes
        self._durable_s = durable_s
        self._make_topics = make_topics
        self._made = {topic}
        self._spill = spill
        self._spills_writes = spills_writes and spill is not None
        self._spilled = 0
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._awaited = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._batch_bytes = _BATCH_BYTES
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to send, first what an earlier process has left on disk.

        A Kafka that is away is waited for behind the scenes. Raises SpillError where the file of
        events cannot be used though writes rely on it.
        """
        left = self._open_spill()
        if left:
            _log.warning("%d events that Kafka has not taken before are sent first", len(left))
        for topic, event in left:
            self._add(_Waiting(event, None, topic, spilled=True))
        self._task = asyncio.create_task(self._run())

    def _open_spill(self) -> list[TopicEvent]:
        if self._spill is None:
            return []
        try:
            return self._spill.open()
        except SpillError as error:
            if self._spills_writes:
                raise
            _log.warning("events are kept in memory only while Kafka is away: %s", error)
            self._spill = None
            return []

    async def close(self) -> None:
        """Send what waits, for a few seconds at most; keeps on disk what was not taken."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                while self._waiting and not self._task.done():
                    await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._keep_rest()
        await self._stop_producer()
        if self._spill is not None:
            self._spill.close()

    async def _keep_rest(self) -> None:
        left = [(one.topic, one.event) for one in self._waiting if not one.spilled]
        if not left:
            return
        why = "there is no file for them"
        if self._spill is not None:
            try:
                await self._spill.keep(left, beyond=True)
            except SpillError as error:
                why = str(error)
            else:
                _log.warning("%d events wait on disk for the next start", len(left))
                return
        _log.error(
            "%d API events were not taken by Kafka before the end and are lost (%s), the first %s",
            *(len(left), why, left[0][1].value.decode(errors="replace")[:500]),
        )

    def check_write(self) -> None:
        """Raise EventsUnavailableError where Kafka is known to be away and nothing is spilled."""
        self._check_running()
        if self._spills_writes and self._spill is not None and self._trouble:
            if not self._spill.has_room:
                raise EventsUnavailableError(f"{self._trouble}; and the spill is full")
            return
        self.check_kafka()

    def check_kafka(self) -> None:
        """Raise EventsUnavailableError where Kafka is known to be away, whatever is spilled.

        What runs code needs Kafka itself: the run's record is part of the call.
        """
        self.check_read()
        if self._trouble:
            raise EventsUnavailableError(self._trouble)

    def check_read(self) -> None:
        """Raise EventsUnavailableError where there is no room for another event."""
        self._check_running()
        if self._waiting_bytes >= self._buffered_bytes:
            raise EventsUnavailableError(
                f"{len(self._waiting)} events wait for Kafka: {self._trouble or 'it is slow'}"
            )

    def _check_running(self) -> None:
        if self._task is None or self._task.done():
            raise EventsUnavailableError("the sending of events has ended; see the service's log")

    def note(self, event: OutgoingEvent, topic: str | None = None) -> None:
        """Send an event soon; it is kept until Kafka has it."""
        self._add(_Waiting(event, None, topic or self._topic))

    async def record(
        self, event: OutgoingEvent, refused: OutgoingEvent, topic: str | None = None
    ) -> None:
        """Send an event and wait until Kafka has it, or until it is on disk where that is enough.

        Raises EventsUnavailableError where neither comes about in time. Then `refused`, which
        says that the call was not carried out, takes the event's place among those that wait.
        """
        try:
            told = ((topic or self._topic, event),)
            await self._record(told, spills=self._spills_writes)
        except _NotTakenError as error:
            (waiting,) = error.waiting
            self._waiting_bytes += len(refused.value) - len(waiting.event.value)
            waiting.event = refused
            raise EventsUnavailableError(error.why) from error

    async def record_all(self, events: Sequence[OutgoingEvent]) -> None:
        """Send events in their order and wait for all; raises EventsUnavailableError.

        They are sent later all the same where it does. Raises EventTooLargeError for one that
        Kafka does not take.
        """
        try:
            told = [(self._topic, event) for event in events]
            await self._record(told, spills=self._spills_writes, whole=True)
        except _NotTakenError as error:
            raise EventsUnavailableError(error.why) from error

    async def record_done(self, event: OutgoingEvent) -> None:
        """Send the event of what is done and cannot be undone: on Kafka, else on disk.

        Where neither takes it, it goes on to wait in memory, and the log says so.
        """
        try:
            await self._record(((self._topic, event),), spills=True)
        except _NotTakenError as error:
            _log.error("the event %s is in memory only: %s", event.id, error.why)

    async def _record(
        self, told: Sequence[TopicEvent], *, spills: bool, whole: bool = False
    ) -> None:
        if not told:
            return
        added = [_Waiting(event, None, topic, whole=whole) for topic, event in told]
        for waiting in added:
            self._add(waiting)
        self._awaited.set()
        if not (spills and self._trouble and self._spill is not None):
            await self._wait_for(added)
        for waiting in added:
            if waiting.refused_bytes:
                limit = f"what the topic {waiting.topic} takes (max.message.bytes)"
                raise EventTooLargeError(waiting.refused_bytes, limit)
        why = self._trouble
        if spills and self._spill is not None:
            try:
                await self._keep(added, self._spill)
            except SpillError as error:
                why = f"{why}; {error}"
            else:
                return
        if not all(waiting.sent for waiting in added):
            raise _NotTakenError(why, added)

    async def _wait_for(self, added: list[_Waiting]) -> None:
        """Wait until Kafka has them, or for as long as a write may wait."""
        # Taken in order: when Kafka has the last it has them all.
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        added[-1].taken = taken
        try:
            async with asyncio.timeout(self._durable_s):
                await taken
        except (TimeoutError, EventsUnavailableError):
            added[-1].taken = None
            if not self._trouble and not added[-1].sent:
                self._trouble = f"no answer within {self._durable_s:g} s"

    async def _keep(self, added: list[_Waiting], spill: EventSpill) -> None:
        # Counted before they are written: the file is not emptied while they are on their way.
        kept = [waiting for waiting in added if not waiting.sent]
        if not kept:
            return
        self._count_spilled(kept, spilled=True)
        try:
            await spill.keep([(waiting.topic, waiting.event) for waiting in kept])
        except BaseException:
            self._count_spilled(kept, spilled=False)
            raise

    def _count_spilled(self, changed: list[_Waiting], *, spilled: bool) -> None:
        for waiting in changed:
            if waiting.sent or waiting.spilled == spilled:
                continue
            waiting.spilled = spilled
            self._spilled += 1 if spilled else -1
            self._waiting_bytes += len(waiting.event.value) * (-1 if spilled else 1)

    def _add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        if waiting.spilled:
            self._spilled += 1
        else:
            self._waiting_bytes += len(waiting.event.value)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._gather()
                count = min(len(self._waiting), _GROUP_MAX)
                group = [self._waiting[place] for place in range(count)]
                sent = [waiting.event for waiting in group]
                try:
                    await self._send(group)
                except _TooLargeError as error:
                    self._make_fit(error.batches)
                    # As after a failure: the sequence of batches has a hole.
                    await self._stop_producer()
                    continue
                except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be lost
                    await self._fail(group, error)
                    continue
                if self._trouble:
                    _log.warning("Kafka takes API events again")
                    self._trouble = ""
                for event in sent:
                    done = self._waiting.popleft()
                    if done.event is not event:
                        # Refused while it was on its way: that is still to be told.
                        self._waiting.append(done)
                        continue
                    self._sent(done)
                if self._spill is not None and not self._spilled and not self._spill.is_empty:
                    await self._spill.clear(lambda: not self._spilled)

    async def _gather(self) -> None:
        """Let events that nobody waits for come together: a send costs more than they do."""
        if not self._awaited.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._awaited.wait()
        self._awaited.clear()

    def _sent(self, done: _Waiting) -> None:
        done.sent = True
        if done.spilled:
            self._spilled -= 1
        else:
            self._waiting_bytes -= len(done.event.value)
        if done.taken is not None and not done.taken.done():
            done.taken.set_result(None)

    async def _fail(self, group: list[_Waiting], error: Exception) -> None:
        if not self._trouble:
            expected = isinstance(error, (KafkaError, OSError, TimeoutError))
            _log.warning(
                "Kafka does not take API events, trying again: %r",
                error,
                exc_info=None if expected else error,
            )
        self._trouble = str(error) or type(error).__name__
        for waiting in group:
            if waiting.taken is not None and not waiting.taken.done():
                waiting.taken.set_exception(EventsUnavailableError(self._trouble))
                waiting.taken = None
        # After a batch is given up, the producer's sequence of batches has a hole.
        await self._stop_producer()
        await asyncio.sleep(_RETRY_S)

    async def _send(self, group: list[_Waiting]) -> None:
        new = {one.topic for one in group} - self._made
        if new and self._make_topics is not None:
            await self._make_topics(new)
            self._made |= new
        producer = await self._started()
        counts: dict[str, int] = {}
        queues: dict[tuple[str, int], list[_Waiting]] = {}
        for one in group:
            if one.topic not in counts:
                counts[one.topic] = len(await producer.partitions_for(one.topic))
            place = partition_for_key(one.event.key, counts[one.topic])
            queues.setdefault((one.topic, place), []).append(one)
        results = await asyncio.gather(
            *(_send_in_order(producer, *place, waiting) for place, waiting in queues.items()),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        too_large = [one for one in failures if isinstance(one, _TooLargeError)]
        for failure in failures:
            if not isinstance(failure, _TooLargeError):
                raise failure
        if too_large:
            raise _TooLargeError([batch for one in too_large for batch in one.batches])

    def _make_fit(self, batches: list[list[_Waiting]]) -> None:
        """Make what Kafka did not take for its size smaller, before all is sent again."""
        if any(len(batch) > 1 for batch in batches):
            self._batch_bytes //= 2
        for one in (batch[0] for batch in batches if len(batch) == 1):
            size = event_bytes(one.event)
            if one.whole and not one.spilled:
                one.refused_bytes = size
                self._waiting.remove(one)
                self._sent(one)
                continue
            shorter = fitting(one.event, size // 2)
            _log.error(
                "the event %s (%s) is larger than %s takes: %d bytes became %d; raise its "
                "max.message.bytes",
                *(one.event.id, one.event.type, one.topic, size, event_bytes(shorter)),
            )
            if not one.spilled:
                self._waiting_bytes += len(shorter.value) - len(one.event.value)
            one.event = shorter

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._cluster.bootstrap,
                enable_idempotence=True,
                max_batch_size=self._batch_bytes,
                max_request_size=2 * _BATCH_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                retry_backoff_ms=50,
            )
            try:
                await self._producer.start()
            except BaseException:
                await self._stop_producer()
                raise
        return self._producer

    async def _stop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await producer.stop()


async def _send_in_order(
    producer: AIOKafkaProducer, topic: str, partition: int, waiting: Sequence[_Waiting]
) -> None:
    """Send events of one partition; raises _TooLargeError with the batch that is not taken."""
    # One after the other: those behind a refused one would be out of sequence.
    for batch, events in _batches(producer, waiting):
        try:
            await (await producer.send_batch(batch, topic, partition=partition))
        except MessageSizeTooLargeError as error:
            raise _TooLargeError([events]) from error


def _batches(
    producer: AIOKafkaProducer, waiting: Sequence[_Waiting]
) -> list[tuple[BatchBuilder, list[_Waiting]]]:
    """Batches of events in their order; one that is larger than a batch has one of its own."""
    made = [(producer.create_batch(), list[_Waiting]())]
    for one in waiting:
        if not _fits(made[-1][0], one.event):
            made.append((producer.create_batch(), []))
            # aiokafka takes the first of a batch whatever its size.
            if not _fits(made[-1][0], one.event):
                raise ValueError(f"the event {one.event.id} goes into no batch")
        made[-1][1].append(one)
    return made


def _fits(batch: BatchBuilder, event: OutgoingEvent) -> bool:
    """Put an event into a batch where there is room."""
    placed = batch.append(
        timestamp=None, key=event.key, value=event.value, headers=list(event.headers)
    )
    return placed is not None
