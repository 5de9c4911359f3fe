"""Runs' records and the offsets they finish, many runs in one Kafka transaction.

A transaction costs a few milliseconds however much it holds, so while one is being committed the
next gathers what ends meanwhile. After any failure of Kafka the whole router ends: what was not
committed never happened, and the next start reads on from what was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError
from aiokafka.producer import sender as aiokafka_sender

from events.cluster import Cluster
from events.outgoing_record import OutgoingRecord
from events.run import StateWrite
from router.delivery import Delivery
from router.errors import RoutingStoppedError
from router.ledger import PartitionLedger
from router.state_table import StateTable

_log = logging.getLogger(__name__)

# A broker answers CONCURRENT_TRANSACTIONS while it writes the markers of the transaction before,
# for about a millisecond; aiokafka then waits 20 ms unless told otherwise.
aiokafka_sender.BACKOFF_OVERRIDE = 0.001

_GROUP_RUNS = 500
_GROUP_BYTES = 8 * 1024 * 1024
_IDLE_COMMIT_S = 1.0
_DRAIN_LIMIT_S = 5.0
_MAX_REQUEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settlement:
    """The records of one attempt; `finished` says that nothing more comes for the delivery.

    `writes` are those of its records that are listeners' state, settled in the table.
    """

    delivery: Delivery
    ledger: PartitionLedger
    records: list[OutgoingRecord]
    finished: bool
    writes: tuple[StateWrite, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of all its records."""
        return sum(record.size_bytes for record in self.records)


class GroupCommit:
    """The transactional producer of a router. `ledgers` gives the partitions it holds now."""

    def __init__(
        self,
        cluster: Cluster,
        instance: str,
        ledgers: Callable[[], Mapping[TopicPartition, PartitionLedger]],
        on_progress: Callable[[], None],
        state: StateTable,
    ) -> None:
        prefix = cluster.topics.prefix
        self._group_id = cluster.router_group
        self._ledgers = ledgers
        self._on_progress = on_progress
        self._state = state
        self._state_topic = cluster.topics.kv
        self._waiting: list[Settlement] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._committed: dict[TopicPartition, tuple[int, str]] = {}
        self._producer = AIOKafkaProducer(
            bootstrap_servers=cluster.bootstrap,
            client_id=f"{prefix}-router-{instance}",
            transactional_id=f"{prefix}.router.{instance}",
            max_request_size=_MAX_REQUEST_BYTES,
            max_batch_size=256 * 1024,
            metadata_max_age_ms=30_000,
        )

    async def start(self) -> None:
        """Take over from an older router of the same instance."""
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise RoutingStoppedError(
                f"Kafka was not reached ({error}); start it, or mend kafka.bootstrap"
            ) from error

    def add(self, settlement: Settlement) -> None:
        """Have an attempt's records committed soon, in the order added."""
        self._waiting.append(settlement)
        self._idle.clear()
        self._wake.set()

    async def drained(self) -> None:
        """Wait until all that was added is committed, but not so long that the group moves on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_LIMIT_S):
                await self._idle.wait()

    def forget(self, partition: TopicPartition, committed: tuple[int, str] | None) -> None:
        """Begin anew with a partition, committed elsewhere as given."""
        if committed is None:
            self._committed.pop(partition, None)
        else:
            self._committed[partition] = committed

    async def run(self) -> None:
        """Commit groups until cancelled; raises RoutingStoppedError where Kafka fails."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_COMMIT_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._commit_all()
            except KafkaError as error:
                raise RoutingStoppedError(f"a group was not committed: {error!r}") from error
            except (AssertionError, IllegalOperation) as error:
                # How aiokafka says that its producer failed fatally, before or within one.
                raise RoutingStoppedError("the producer had failed before a group") from error

    async def close(self) -> None:
        """Close the producer; an open transaction is left to the next start to abort."""
        try:
            async with asyncio.timeout(5):
                await self._producer.stop()
        except (KafkaError, TimeoutError) as error:
            _log.warning("closing the router's producer: %r", error)

    async def _commit_all(self) -> None:
        while self._waiting:
            group = self._take()
            for one in group:
                if one.finished:
                    one.ledger.finish(one.delivery.offset, one.delivery.definition.name)
            await self._commit(group)
            self._on_progress()
        if self._offsets():
            await self._commit([])
        self._idle.set()

    def _take(self) -> list[Settlement]:
        size = 0
        for count, settlement in enumerate(self._waiting, 1):
            size += settlement.size_bytes
            if count >= _GROUP_RUNS or size >= _GROUP_BYTES:
                break
        else:
            count = len(self._waiting)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        # What was run for a partition that is another router's now is run there.
        ledgers = self._ledgers()
        ours: list[Settlement] = []
        for one in group:
            if ledgers.get(_partition(one)) is one.ledger:
                ours.append(one)
            elif one.writes:
                self._unsettle(one)
        return ours

    async def _commit(self, group: list[Settlement]) -> None:
        offsets = self._offsets()
        records = [record for one in group for record in one.records]
        if not records and not offsets:
            return
        await self._producer.begin_transaction()
        written = [
            await self._producer.send(
                record.topic, record.value, record.key, headers=list(record.headers)
            )
            for record in records
        ]
        placed = [await one for one in written]
        if offsets:
            await self._producer.send_offsets_to_transaction(
                {
                    partition: OffsetAndMetadata(offset, metadata)
                    for partition, (offset, metadata) in offsets.items()
                },
                self._group_id,
            )
        await self._producer.commit_transaction()
        self._committed |= offsets
        self._take_state(group, records, [one.offset for one in placed])

    def _take_state(
        self, group: list[Settlement], records: list[OutgoingRecord], offsets: list[int]
    ) -> None:
        """Count what is committed of listeners' state as such."""
        placed = iter(
            [
                offset
                for record, offset in zip(records, offsets, strict=True)
                if record.topic == self._state_topic
            ]
        )
        for one in group:
            if one.writes:
                definition = one.delivery.definition
                written = [(write, next(placed)) for write in one.writes]
                self._state.commit(definition.tenant, definition.name, written)
                self._unsettle(one)

    def _unsettle(self, settlement: Settlement) -> None:
        definition = settlement.delivery.definition
        self._state.unsettle(definition.tenant, definition.name, settlement.writes)

    def _offsets(self) -> dict[TopicPartition, tuple[int, str]]:
        points = {partition: ledger.commit_point() for partition, ledger in self._ledgers().items()}
        return {part: point for part, point in points.items() if self._committed.get(part) != point}


def _partition(settlement: Settlement) -> TopicPartition:
    return TopicPartition(settlement.delivery.topic, settlement.delivery.partition)
