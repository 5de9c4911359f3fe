"""Capture of MongoDB: one change stream becomes records on Kafka, each change exactly once.

The shell around `mongo_stream` (pure) and `mongo_cursor`: it opens the stream where the progress
record says, keeps the next getMore in flight while a batch is encoded, and publishes groups with
the progress after them. It is crash-only: whatever fails raises, and the next start goes on. It
must never go past events that it could not read without saying so (a gap event).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Literal

from pymongo.errors import PyMongoError

from cdc import mongo_gap
from cdc.change_group import ChangeGroup
from cdc.errors import CaptureConfigError, SourceLostError
from cdc.mongo_cursor import Batch, ChangeCursor
from cdc.mongo_deployment import Deployment, connect, find_deployment, same_deployment
from cdc.mongo_extended_json import token_from_json, token_json
from cdc.mongo_failure import StreamBrokenError, explain, gap_in
from cdc.mongo_images import ImageSwitch, collections_without_images
from cdc.mongo_stream import MongoStream
from cdc.progress import MongoProgress, decode_progress
from cdc.publisher import Publisher
from cdc.topic_creation import MAX_RECORD_BYTES
from events.cluster import Cluster

_log = logging.getLogger(__name__)

_GROUP_BYTES: Final = 16 * 1024 * 1024
# A batch near MongoDB's 16 MB was cut by its size, perhaps in the midst of a transaction.
_CUT_BATCH_BYTES: Final = 12 * 1024 * 1024
_EVENTS_A_TURN: Final = 500
# Header, topic name and key of a record beside its value, as generous as keys get.
_RECORD_MARGIN_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class MongoSource:
    """A MongoDB to capture.

    `database` None captures every database of the deployment; `on_gap` says whether to stop or
    to go on from now where the oplog no longer holds what follows the progress; progress is
    stored every `heartbeat_s` while nothing happens; `pre_images` switches
    changeStreamPreAndPostImages on for captured collections.
    """

    name: str
    uri: str
    database: str | None = None
    on_gap: Literal["stop", "continue"] = "stop"
    heartbeat_s: float = 10.0
    pre_images: bool = True


async def capture_mongo(
    source: MongoSource,
    cluster: Cluster,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Capture until `stop` is set; `on_ready` is called once nothing can be lost any more.

    Raises CaptureConfigError, CaptureGapError, SourceLostError or PublishError; the process
    should then end and be started again.
    """
    client = connect(source.uri, source.name)
    publisher = Publisher(cluster, source.name)
    try:
        deployment = await find_deployment(client, source.name)
        cursor = ChangeCursor(client, source.database, splits_events=deployment.splits_events)
        images = ImageSwitch(client)
        capture = _Capture(source, cluster, publisher, cursor, images)
        try:
            await capture.open(deployment)
            if source.pre_images:
                # After the stream is open: a collection made later is in the stream.
                images.request(
                    await images.enable(await collections_without_images(client, source.database))
                )
            await capture.run(stop, on_ready)
        except PyMongoError as error:
            raise explain(error, source.name) from error
        finally:
            await cursor.close()
    finally:
        await publisher.close()
        with suppress(PyMongoError):
            await client.close()


class _Capture:
    """One run of a capture."""

    def __init__(
        self,
        source: MongoSource,
        cluster: Cluster,
        publisher: Publisher,
        cursor: ChangeCursor,
        images: ImageSwitch,
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._publisher = publisher
        self._cursor = cursor
        self._images = images
        self._group = ChangeGroup()
        self._stored: MongoProgress | None = None
        self._stored_at_s = 0.0
        self._stream = self._stream_from(MongoProgress({}, 0, 0, 0))

    async def open(self, deployment: Deployment) -> None:
        """Fence, read the progress, and open the stream behind it, or now where there is none."""
        last = await self._publisher.start()
        if last is None:
            await self._begin_now(deployment.identity)
            return
        progress = decode_progress(last)
        if not isinstance(progress, MongoProgress):
            raise CaptureConfigError(
                found=f"progress of a source {self._source.name!r} that is not MongoDB",
                expected="a name that no other source on this Kafka has had",
                mend=f"rename sources.{self._source.name} in rowcast.toml",
            )
        self._stored = progress
        if not same_deployment(progress.deployment, deployment.identity):
            await self._over_gap(
                progress,
                StreamBrokenError(
                    f"the progress is of the deployment {progress.deployment}, "
                    f"the URI leads to {deployment.identity}"
                ),
                deployment,
            )
            return
        try:
            await self._resume(token_from_json(progress.token))
        except StreamBrokenError as broken:
            await self._over_gap(progress, broken, deployment)
        else:
            self._stream = self._stream_from(replace(progress, gap=None))

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Read and publish until `stop`."""
        on_ready()
        stopped = asyncio.create_task(stop.wait())
        images = asyncio.create_task(self._images.run())
        reading = asyncio.create_task(self._cursor.next())
        try:
            while True:
                await asyncio.wait((stopped, images, reading), return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    return
                if images.done():
                    await images
                batch = await self._read(reading)
                if not batch.closed:
                    reading = asyncio.create_task(self._cursor.next())
                await self._process(batch)
                if batch.closed:
                    await self._reopen()
                    reading = asyncio.create_task(self._cursor.next())
        finally:
            for task in (stopped, images, reading):
                task.cancel()
            await asyncio.gather(stopped, images, reading, return_exceptions=True)

    async def _read(self, reading: asyncio.Task[Batch]) -> Batch:
        try:
            return await reading
        except PyMongoError as error:
            broken = gap_in(error)
            if broken is None:
                raise
            # Everything before is published; the next start meets the same gap and, where
            # on_gap says so, goes over it.
            raise await self._gap_error(self._stream.progress, broken) from error

    async def _process(self, batch: Batch) -> None:
        stream, group = self._stream, self._group
        now_ms = time.time_ns() // 1_000_000
        for count, event in enumerate(batch.events):
            if not count % _EVENTS_A_TURN:
                await asyncio.sleep(0)  # lets the getMore in flight leave and arrive
            record = stream.take(event, now_ms)
            if record is not None:
                group.add(*record)
                if group.size_bytes > _GROUP_BYTES:
                    await self._publish()
                    group = self._group
        stream.advance(batch.token)
        if stream.created:
            if self._source.pre_images:
                self._images.request(stream.created)
            stream.created.clear()
        cut = batch.size_bytes > _CUT_BATCH_BYTES and stream.in_transaction
        heartbeat = time.monotonic() - self._stored_at_s > self._source.heartbeat_s
        if (group and not cut) or (heartbeat and stream.progress != self._stored):
            await self._publish()

    async def _publish(self) -> None:
        group, self._group = self._group, ChangeGroup()
        await self._store(group, self._stream.progress)

    async def _store(self, group: ChangeGroup, progress: MongoProgress) -> None:
        await self._publisher.publish(group, progress.encode())
        self._stored = progress
        self._stored_at_s = time.monotonic()

    async def _begin_now(self, identity: str) -> None:
        token = await self._cursor.open(None)
        progress = MongoProgress(token_json(token), 0, 0, 0, deployment=identity)
        self._stream = self._stream_from(progress)
        await self._store(ChangeGroup(), progress)

    async def _resume(self, token: bytes) -> None:
        try:
            await self._cursor.open(token)
        except PyMongoError as error:
            broken = gap_in(error)
            if broken is None:
                raise
            raise broken from error

    async def _reopen(self) -> None:
        """Go on after an invalidate event: the database was dropped and may come back."""
        if not self._stream.invalidated:
            raise SourceLostError(f"MongoDB closed the change stream of {self._source.name!r}")
        await self._publish()
        self._stream.invalidated = False
        await self._resume(token_from_json(self._stream.progress.token))

    async def _over_gap(
        self, progress: MongoProgress, broken: StreamBrokenError, deployment: Deployment
    ) -> None:
        """Say that changes were lost; then go on from now, or raise where that is not allowed."""
        error = await self._gap_error(progress, broken)
        if self._source.on_gap == "stop":
            raise error from broken
        _log.warning("%s", error)
        await self._begin_now(deployment.identity)

    async def _gap_error(
        self, progress: MongoProgress, broken: StreamBrokenError
    ) -> mongo_gap.CaptureGapError:
        """The error for a gap, whose event is on Kafka once however often capture starts."""
        gap = mongo_gap.MongoGap(self._source.name, progress, broken.reason, broken.code)
        if progress.gap != gap.event_id:
            group = ChangeGroup()
            event = gap.event(time.time_ns() // 1_000_000)
            group.add(self._cluster.topics.events, event.key, event.value)
            await self._store(group, replace(progress, gap=gap.event_id))
        return gap.error()

    def _stream_from(self, progress: MongoProgress) -> MongoStream:
        return MongoStream(
            self._source.name,
            self._cluster.topics,
            progress,
            largest_record_bytes=MAX_RECORD_BYTES - _RECORD_MARGIN_BYTES,
        )
