"""The live end of every pushed topic, read once for all connections of the process.

Begins at the end and goes on from where the fan-out stands, whatever fails: a Kafka that is away
costs time, no events, and no connection is closed for it. A topic made later is read from its
beginning. Starting and stopping never wait for Kafka without a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from events.cluster import Cluster
from push.errors import UnavailableError
from push.fan_out import FanOut
from push.kafka_reader import KafkaReader, out_of_range
from push.positions import Extent, Partition

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_SLICE_BYTES = 128 * 1024
_SLICE_DELIVERIES = 20_000
_RETRY_S = 0.5
_ANSWER_LIMIT_S = 5.0
_MARKERS = 16
_FAILURES = (KafkaError, OSError, TimeoutError)


class Tail:
    """Reads Kafka into a fan-out."""

    def __init__(self, cluster: Cluster, fan_out: FanOut) -> None:
        self._cluster = cluster
        self._fan_out = fan_out
        self._pattern = re.compile(cluster.topics.pushed_pattern(cluster.sources))
        self._placed = asyncio.Event()
        self._looking = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._reader: KafkaReader | None = None
        self._admin: AIOKafkaAdminClient | None = None
        self._is_away = False

    async def start(self, limit_s: float) -> None:
        """Begin; waits for Kafka up to a limit and goes on trying after that."""
        self._running = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._placed.wait(), limit_s)

    async def close(self) -> None:
        """Stop reading."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    def check_placed(self) -> None:
        """Raise UnavailableError as long as it is not known where the topics end."""
        if not self._placed.is_set():
            raise self._unavailable()

    async def refresh(self) -> None:
        """Look for new topics now; raises UnavailableError where Kafka does not answer."""
        await self._asked(lambda _reader: self._look())

    async def extents(self, parts: Collection[Partition]) -> dict[Partition, Extent]:
        """What Kafka holds of partitions; raises UnavailableError where it does not answer."""
        if not parts:
            return {}
        return await self._asked(lambda reader: reader.extents(parts))

    async def _asked(self, ask: Callable[[KafkaReader], Awaitable[_Result]]) -> _Result:
        if self._reader is None:
            raise self._unavailable()
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                return await ask(self._reader)
        except _FAILURES as error:
            raise self._unavailable() from error

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(
            "found no answer from Kafka, which is needed for this registration; register again in "
            "a moment, nothing is lost"
        )

    async def _run(self) -> None:
        while True:
            try:
                await self._session()
            except _FAILURES as error:
                self._note_away(error)
            except Exception:  # noqa: BLE001 - whatever it is, connections outlive it
                _log.exception("reading events failed; it begins anew from where it stood")
            await asyncio.sleep(_RETRY_S)

    async def _session(self) -> None:
        """Read until something fails."""
        async with contextlib.AsyncExitStack() as stack:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._cluster.bootstrap)
            reader = KafkaReader(self._cluster)
            stack.push_async_callback(admin.close)
            stack.push_async_callback(reader.close)
            await admin.start()
            await reader.start()
            self._admin, self._reader = admin, reader
            stack.callback(self._disconnected)
            await self._look()
            self._placed.set()
            looker = asyncio.create_task(self._look_again_and_again())
            stack.callback(looker.cancel)
            while True:
                await self._read(reader)

    def _disconnected(self) -> None:
        self._admin = self._reader = None

    async def _read(self, reader: KafkaReader) -> None:
        try:
            batches = await reader.fetch()
        except OffsetOutOfRangeError as error:
            await self._lost(reader, out_of_range(error))
            return
        size_bytes = deliveries = 0
        for part, records in batches.items():
            for record in records:
                deliveries += self._fan_out.dispatch(part, record.offset, record.key, record.value)
                size_bytes += len(record.value or b"")
                if size_bytes > _SLICE_BYTES or deliveries > _SLICE_DELIVERIES:
                    # Connections write what they have, joined, before they are given more.
                    size_bytes = deliveries = 0
                    await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _lost(self, reader: KafkaReader, parts: Collection[Partition]) -> None:
        for part, extent in (await reader.extents(parts)).items():
            _log.error(
                "%s/%d: offset %d is no longer on Kafka, going on at %d; clients are told",
                *part,
                self._fan_out.next_offsets[part],
                extent.begin,
            )
            self._fan_out.lost(part, extent.begin)
            reader.seek(part, extent.begin)

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._cluster.metadata_max_age_ms / 1_000)
            try:
                async with asyncio.timeout(_ANSWER_LIMIT_S):
                    await self._look()
            except _FAILURES as error:
                self._note_away(error)
            else:
                self._note_back()

    async def _look(self) -> None:
        """Follow topics that are new, and leave those alone that are gone."""
        async with self._looking:
            admin, reader = self._admin, self._reader
            if admin is None or reader is None:
                return
            readable, present = await self._partitions(admin)
            known = self._fan_out.next_offsets
            if not self._placed.is_set():
                self._fan_out.place(await _last_records(reader, readable))
                reader.parts.clear()
            else:
                extents = await reader.extents(readable - known.keys())
                self._fan_out.place({part: extent.begin for part, extent in extents.items()})
            # A partition without a leader may have one again; one that is gone is only dropped.
            wanted = readable | (reader.parts & present)
            if wanted != reader.parts:
                reader.assign({part: known[part] for part in wanted})

    async def _partitions(
        self, admin: AIOKafkaAdminClient
    ) -> tuple[set[Partition], set[Partition]]:
        """The partitions of all pushed topics: those with a leader, and all there are."""
        readable: set[Partition] = set()
        present: set[Partition] = set()
        for topic in await admin.describe_topics():
            if not self._pattern.fullmatch(topic["topic"]):
                continue
            for partition in topic["partitions"]:
                part = topic["topic"], partition["partition"]
                present.add(part)
                if partition["leader"] >= 0:
                    readable.add(part)
        return readable, present

    def _note_away(self, error: BaseException) -> None:
        if not self._is_away:
            self._is_away = True
            _log.warning(
                "Kafka at %s does not answer (%r); connections stay, events come once it is back",
                self._cluster.bootstrap,
                error,
            )

    def _note_back(self) -> None:
        if self._is_away:
            self._is_away = False
            _log.info("Kafka at %s answers again", self._cluster.bootstrap)


async def _last_records(reader: KafkaReader, parts: Collection[Partition]) -> dict[Partition, int]:
    """The offset after the last record of each partition, as every process would tell it.

    A partition's end also counts markers of transactions, which no client ever has. Told alike
    before and after a restart, a client that has the last record has nothing to catch up with.
    """
    extents = await reader.extents(parts)
    begins = {part: max(it.begin, it.end - _MARKERS) for part, it in extents.items()}
    after_last = dict(begins)
    waiting = {part for part, begin in begins.items() if begin < extents[part].end}
    reader.assign({part: begins[part] for part in waiting})
    while waiting:
        for part, records in (await reader.fetch()).items():
            earlier = [record.offset for record in records if record.offset < extents[part].end]
            if earlier:
                after_last[part] = earlier[-1] + 1
        for part in list(waiting):
            if await reader.position(part) >= extents[part].end:
                waiting.discard(part)
    return after_last
