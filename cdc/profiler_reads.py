"""Capture of reads in MongoDB: each entry of the profilers that tells of one, an event once.

A loop of its own beside the change stream's (mongo.py), with transactional producers and a
progress of its own: what troubles one must not stop the other. Each data-bearing member is read by
itself, since each profiles what it is asked. Events and the places behind them are one Kafka
transaction. It runs while collections are audited (mongo_audit.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from pymongo.errors import PyMongoError

from cdc.change_group import ChangeGroup
from cdc.mongo_audit import AuditStore, MongoAudit
from cdc.mongo_deployment import MongoClient, connect
from cdc.mongo_profiler import MongoProfiler, connect_member, member_addresses
from cdc.mongo_source import MongoSource
from cdc.profile_progress import PROFILER_LOG, ProfilePlace, ProfilerProgress
from cdc.profile_tail import ProfileTail
from cdc.publisher import Publisher
from cdc.read_capture import Backoff, keep_reading, pause
from events.cluster import Cluster

_log = logging.getLogger(__name__)

_ASKED_EVERY_S: Final = 1.0
_BACKOFF_S: Final = (0.5, 1.0, 2.0, 5.0, 15.0)


async def capture_profiler_reads(
    source: MongoSource, cluster: Cluster, *, stop: asyncio.Event
) -> None:
    """Read the profilers while collections are audited, until `stop` is set.

    Whatever fails is logged and tried again; another capture that takes over ends it.
    """
    await keep_reading(
        lambda: _read_while_asked(source, cluster, stop),
        f"{source.name}: reads by the profiler",
        Backoff(_BACKOFF_S),
        PyMongoError,
        stop=stop,
    )


async def _read_while_asked(source: MongoSource, cluster: Cluster, stop: asyncio.Event) -> None:
    client = connect(source.uri, source.name)
    try:
        store = AuditStore(client, source.database)
        while not stop.is_set():
            audit = await store.find()
            if audit is None or not (audit.since_ms or audit.before):
                await pause(stop, _ASKED_EVERY_S)
                continue
            publisher = Publisher(cluster, source.name, log=PROFILER_LOG)
            try:
                last = await publisher.start()
                reading = _Reading(source, cluster, client, store, publisher, audit, last)
                await reading.run(stop)
            finally:
                await publisher.close()
    finally:
        with contextlib.suppress(PyMongoError):
            await client.close()


class _Reading:
    """One run over all profilers, from the progress on, until nothing is audited any more."""

    def __init__(
        self,
        source: MongoSource,
        cluster: Cluster,
        client: MongoClient,
        store: AuditStore,
        publisher: Publisher,
        audit: MongoAudit,
        last: bytes | None,
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._client = client
        self._store = store
        self._publisher = publisher
        self._audit = audit
        progress = ProfilerProgress.decode(last) if last is not None else ProfilerProgress()
        self._places = dict(progress.places) if progress.audit == audit.id else {}
        self._publishing = asyncio.Lock()
        self._tails: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set or nobody asks any more; raises what a publisher raises."""
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                audit = await self._store.find()
                if audit is not None and audit.id == self._audit.id:
                    await self._begin_tails(audit)
                elif not self._tails:
                    return
                await asyncio.wait(
                    {stopped, *self._tails.values()},
                    timeout=_ASKED_EVERY_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for place in [place for place, tail in self._tails.items() if tail.done()]:
                    self._tails.pop(place).result()
        finally:
            for task in (stopped, *self._tails.values()):
                task.cancel()
            await asyncio.gather(stopped, *self._tails.values(), return_exceptions=True)

    async def _begin_tails(self, audit: MongoAudit) -> None:
        members = await member_addresses(self._client, self._source.uri)
        wanted = {(member, database) for member in members for database in audit.databases}
        # What is audited no more is read to its end.
        wanted |= {(member, name) for member, name in audit.before if self._is_open(member, name)}
        for member, database in wanted - self._tails.keys():
            reading = self._read(member, database)
            self._tails[member, database] = asyncio.create_task(reading)

    def _is_open(self, member: str, database: str) -> bool:
        place = self._places.get(f"{member}/{database}")
        return place is not None and not place.ended

    async def _read(self, member: str, database: str) -> None:
        """One profiler; a member that is away is waited for, and read no one else's reads.

        Returns once nothing of the database is audited any more.
        """
        place = f"{member}/{database}"
        backoff = Backoff(_BACKOFF_S)
        while True:
            client = connect_member(self._source.uri, self._source.name, member)
            began_s = time.monotonic()
            try:
                tail = ProfileTail(
                    *(self._source, member, database),
                    MongoProfiler(client, database),
                    self._store,
                    self._places.get(place),
                    ask=self._store.find,
                    publish=lambda group, at: self._publish(place, group, at),
                    events_topic=self._cluster.topics.events,
                )
                await tail.run()
            except PyMongoError as error:
                pause_s = backoff.after(time.monotonic() - began_s)
                _log.warning("%s: the profiler of %s waits: %s", self._source.name, place, error)
                await asyncio.sleep(pause_s)
            else:
                return
            finally:
                with contextlib.suppress(PyMongoError):
                    await client.close()

    async def _publish(self, place: str, group: ChangeGroup, at: ProfilePlace) -> None:
        async with self._publishing:
            places = {**self._places, place: at}
            progress = ProfilerProgress(self._audit.id, places)
            await self._publisher.publish(group, progress.encode())
            self._places = places
