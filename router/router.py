"""The router: reads events, finds their listeners, has each carried out, commits what is done.

    EventSource -> ListenerIndex -> Lanes -> Carrier -> GroupCommit -> offsets and records

At least once for every (listener, event); what a run emitted, its record and its offset are one
Kafka transaction, so effects on Kafka are there once. A listener sees events that happened from
when it was first applied on. The router holds nothing that is not on Kafka: any failure ends it,
and whoever runs it starts it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from aiokafka import ConsumerRecord, TopicPartition

from events.cluster import Cluster
from events.errors import EventFormatError
from events.event import decode_event
from events.mail import MailSender, NoMail
from events.outgoing_record import OutgoingRecord
from events.run import Sandbox, StateWrite
from router.carrier import Carrier
from router.definition import Definition
from router.definition_feed import DefinitionFeed
from router.delivery import Delivery
from router.event_source import EventSource
from router.group_commit import GroupCommit, Settlement
from router.lanes import Lanes
from router.ledger import PartitionLedger
from router.listener import ListenerIndex
from router.replay import replayed_for
from router.scheduler import Scheduler
from router.state_feed import StateFeed
from router.state_table import StateTable

_log = logging.getLogger(__name__)

_FETCH_WAIT_MS = 250


class Router:
    """One router of an installation; `instance` tells it from the others of its group."""

    def __init__(
        self,
        cluster: Cluster,
        sandbox: Sandbox,
        *,
        instance: str = "0",
        mail: MailSender | None = None,
    ) -> None:
        self._retry_topic = cluster.topics.retry
        self._index = ListenerIndex([])
        self._backlog: dict[TopicPartition, deque[ConsumerRecord]] = {}
        self._room = asyncio.Event()
        self._state = StateTable()
        self._state_feed = StateFeed(cluster, self._state)
        self._carrier = Carrier(
            *(cluster, sandbox, self._state, lambda: self._feed.modules), mail or NoMail()
        )
        self._feed = DefinitionFeed(cluster, self._use_index)
        self._commit = GroupCommit(cluster, instance, self._held, self._room.set, self._state)
        self._scheduler = Scheduler(cluster, instance, lambda: self._feed.by_the_clock)
        self._source = EventSource(cluster, instance, self._commit.drained, self._begin_anew)

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Route until `stop` is set; raises RoutingStoppedError where it cannot go on.

        Runs that are under way at the stop are abandoned and run again at the next start.
        """
        try:
            await self._feed.start()
            await self._commit.start()
            # After the takeover, which ends the transaction that an older one has left open.
            await self._state_feed.start()
            await self._source.start()
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._feed.run()),
                    tasks.create_task(self._commit.run()),
                    tasks.create_task(self._scheduler.run()),
                    tasks.create_task(self._state_feed.run()),
                ]
                lanes = Lanes(tasks, self._carry)
                await self._route(lanes, stop, on_ready)
                lanes.cancel()
                await self._commit.drained()
                for task in background:
                    task.cancel()
        finally:
            await self._source.close()
            await self._commit.close()
            await self._feed.close()
            await self._state_feed.close()
            await self._carrier.close()

    async def _route(self, lanes: Lanes, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        ready = False
        stopping = asyncio.create_task(stop.wait())
        fetching = asyncio.create_task(self._source.fetch(_FETCH_WAIT_MS))
        room = asyncio.create_task(self._room.wait())
        try:
            while not stop.is_set():
                waits = (fetching, stopping, room)
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if fetching.done():
                    for partition, records in fetching.result().items():
                        self._backlog.setdefault(partition, deque()).extend(records)
                    fetching = asyncio.create_task(self._source.fetch(_FETCH_WAIT_MS))
                if room.done():
                    self._room.clear()
                    room = asyncio.create_task(self._room.wait())
                self._scheduler.follow_assignment(self._source.ledgers())
                self._dispatch(lanes)
                if not ready and self._source.is_assigned:
                    ready = True
                    on_ready()
        finally:
            for task in (stopping, fetching, room):
                task.cancel()
            await asyncio.gather(stopping, fetching, room, return_exceptions=True)

    def _dispatch(self, lanes: Lanes) -> None:
        """Hand out what there is room for; a partition without room is not fetched further."""
        for partition, waiting in list(self._backlog.items()):
            ledger = self._source.ledgers().get(partition)
            if ledger is None:
                del self._backlog[partition]
                continue
            while waiting and self._hand_out(ledger, waiting[0], lanes):
                waiting.popleft()
            if waiting:
                self._source.pause(partition)
            else:
                del self._backlog[partition]
                self._source.resume(partition)

    def _hand_out(self, ledger: PartitionLedger, record: ConsumerRecord, lanes: Lanes) -> bool:
        if record.offset < ledger.next_offset:
            return True
        if lanes.is_full:
            return False
        deliveries = {one.definition.name: one for one in self._deliveries(record)}
        if not ledger.has_room(record.offset, len(deliveries)):
            return False
        for name in ledger.open_event(record.offset, deliveries):
            lanes.add(deliveries[name])
        return True

    def _deliveries(self, record: ConsumerRecord) -> list[Delivery]:
        if record.value is None:
            return []
        try:
            event = decode_event(record.value, record.headers)
        except EventFormatError as error:
            place = f"{record.topic}[{record.partition}]@{record.offset}"
            _log.warning("%s is no event and is passed over: %s", place, error)
            return []
        definitions = self._index.match(event, record.timestamp)
        if record.topic == self._retry_topic:
            definitions = self._replayed(record)
        return [
            Delivery(definition, event, record.key, record.topic, record.partition, record.offset)
            for definition in definitions
        ]

    def _replayed(self, record: ConsumerRecord) -> list[Definition]:
        """The one listener that an event is given to again, whatever it asks for itself."""
        name = replayed_for(record.headers)
        definition = None if name is None else self._index.named(name)
        if definition is None:
            place = f"{record.topic}[{record.partition}]@{record.offset}"
            _log.warning("%s is for %s, which is not enabled, and is passed over", place, name)
            return []
        return [definition]

    async def _carry(self, delivery: Delivery) -> None:
        partition = TopicPartition(delivery.topic, delivery.partition)
        ledger = self._source.ledgers().get(partition)
        if ledger is None:
            return

        def settle(
            settled: Delivery,
            records: list[OutgoingRecord],
            finished: bool,
            writes: tuple[StateWrite, ...],
        ) -> None:
            if writes:
                definition = settled.definition
                self._state.settle(definition.tenant, definition.name, writes)
            self._commit.add(Settlement(settled, ledger, records, finished, writes))

        await self._carrier.carry(delivery, settle)

    def _held(self) -> dict[TopicPartition, PartitionLedger]:
        return dict(self._source.ledgers())

    def _begin_anew(self, partition: TopicPartition, committed: tuple[int, str] | None) -> None:
        self._backlog.pop(partition, None)
        self._commit.forget(partition, committed)

    def _use_index(self, index: ListenerIndex) -> None:
        self._index = index
