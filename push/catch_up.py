"""What one registration missed, read from Kafka by a consumer of its own, until it is live.

As fast as the client reads and no faster: the outbox says when there is room, and a client that
makes none for long is closed as slow, since only so many catch up at once. The end of it is exact
(push/registration.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from events.cluster import Cluster
from push.event_frame import EventFrames
from push.fan_out import FanOut
from push.frame import Frame
from push.kafka_reader import KafkaReader, out_of_range
from push.positions import Partition, ResumePoint
from push.protocol import answer
from push.pushed_event import concerns, pushed_event
from push.registration import Joining, Registration

_log = logging.getLogger(__name__)

_RETRY_S = 0.5


class CatchUp:
    """Brings one registration from where it stands to live delivery."""

    def __init__(
        self,
        cluster: Cluster,
        fan_out: FanOut,
        registration: Registration,
        begin: ResumePoint,
        stalled_s: float,
    ) -> None:
        self._cluster = cluster
        self._fan_out = fan_out
        self._registration = registration
        self._outbox = registration.outbox
        self._next_offsets = dict(begin.next_offsets)
        self._complete = begin.complete
        self._stalled_s = stalled_s

    async def run(self, slots: asyncio.Semaphore) -> None:
        """Deliver all that was missed, then what was held, and be live."""
        async with slots:
            while self._joining is not None:
                try:
                    await self._session()
                except (KafkaError, OSError, TimeoutError) as error:
                    _log.warning("catching up waits for Kafka: %r", error)
                    await asyncio.sleep(_RETRY_S)

    @property
    def _joining(self) -> Joining | None:
        return None if self._outbox.has_ended else self._registration.joining

    async def _session(self) -> None:
        """Read until it is done; a Kafka that fails is raised, and the next session goes on."""
        reader = KafkaReader(self._cluster, behind=True)
        try:
            await reader.start()
            while (joining := self._joining) is not None:
                behind = self._behind(joining)
                if behind:
                    await self._read(reader, joining, behind)
                else:
                    await self._go_live(joining)
        finally:
            await reader.close()

    def _behind(self, joining: Joining) -> list[Partition]:
        offsets = self._next_offsets
        return [part for part, target in joining.targets.items() if offsets.get(part, 0) < target]

    async def _read(
        self, reader: KafkaReader, joining: Joining, behind: Collection[Partition]
    ) -> None:
        if set(behind) != reader.parts:
            reader.assign({part: self._next_offsets.get(part, 0) for part in behind})
        try:
            batches = await reader.fetch()
        except OffsetOutOfRangeError as error:
            # Kafka threw away what was still to be read, or it begins later than at 0.
            self._complete = False
            for part, extent in (await reader.extents(out_of_range(error))).items():
                self._next_offsets[part] = extent.begin
            reader.parts.clear()
            return
        for part in behind:
            records = batches.get(TopicPartition(*part), ())
            if await self._deliver(joining, part, records):
                # Also beyond markers and what was aborted, which come as no records.
                self._next_offsets[part] = await reader.position(part)
            else:
                # The reader is beyond the target, which may move on; it is placed anew then.
                reader.parts.discard(part)
        await asyncio.sleep(0)

    async def _deliver(
        self, joining: Joining, part: Partition, records: Sequence[ConsumerRecord]
    ) -> bool:
        """Whether all records were below the target; from there on they are held or live."""
        registration = self._registration
        for record in records:
            if record.offset >= joining.targets[part]:
                self._next_offsets[part] = record.offset
                return False
            event = pushed_event(part, record.offset, record.key, record.value)
            if event is not None and registration.pattern.matches(event.type):
                concern = concerns(registration.conditions, event)
                if concern is not None:
                    ids = (registration.id,)
                    left = ids if concern == "left" else ()
                    await self._send(EventFrames(event).frame(ids, left))
            self._next_offsets[part] = record.offset + 1
        return True

    async def _send(self, frame: Frame) -> None:
        await self._room(frame.size_bytes)
        self._outbox.put(frame)

    async def _room(self, size_bytes: int) -> None:
        try:
            async with asyncio.timeout(self._stalled_s):
                await self._outbox.room(size_bytes)
        except TimeoutError:
            self._outbox.end_slow()

    async def _go_live(self, joining: Joining) -> None:
        """Let out what is held, as soon as there is room for all of it."""
        live = answer(
            "live",
            id=self._registration.id,
            complete=self._complete,
            positions=self._fan_out.positions(self._registration.pattern),
        )
        size_bytes = joining.held_bytes + live.size_bytes
        if not self._outbox.fits(size_bytes):
            await self._room(size_bytes)
            return
        for frame in (*joining.held, live):
            self._outbox.put(frame)
        self._registration.joining = None
