"""The loop of a MongoDB capture: batches in, groups with their progress to Kafka.

The next getMore is in flight while a batch is encoded and published. It must never go past
events that it could not read without saying so: that is a gap, whose event stands on Kafka
before anything that follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pymongo.errors import PyMongoError

from cdc.change_group import ChangeGroup
from cdc.errors import CaptureConfigError, SourceLostError
from cdc.mongo_cursor import Batch, ChangeCursor, Pace
from cdc.mongo_deployment import same_deployment
from cdc.mongo_extended_json import token_from_json, token_json
from cdc.mongo_failure import TOO_LARGE, StreamBrokenError, gap_in
from cdc.mongo_gap import MongoGap
from cdc.mongo_images import ImageSwitch
from cdc.mongo_outbox_emptying import OutboxEmptying
from cdc.mongo_source import MongoSource
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


class MongoCapture:
    """One run of a capture; `deployment` is the identity of what the cursor reads."""

    def __init__(
        self,
        source: MongoSource,
        cluster: Cluster,
        deployment: str,
        publisher: Publisher,
        cursor: ChangeCursor,
        images: ImageSwitch,
        emptying: OutboxEmptying,
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._deployment = deployment
        self._publisher = publisher
        self._cursor = cursor
        self._images = images
        self._emptying = emptying
        self._group = ChangeGroup()
        self._stored = MongoProgress({}, 0, 0, 0, deployment=deployment)
        self._stored_at_s = 0.0
        self._stream = self._stream_from(self._stored)

    async def open(self) -> None:
        """Fence, read the progress, and open the stream behind it, or now where there is none.

        Raises CaptureConfigError, CaptureGapError, PublishError, and what pymongo raises.
        """
        last = await self._publisher.start()
        if last is None:
            await self._finish(await self._begin_now())
            return
        progress = decode_progress(last)
        if not isinstance(progress, MongoProgress):
            raise CaptureConfigError(
                found=f"progress of a source {self._source.name!r} that is not MongoDB",
                expected="a name that no other source on this Kafka has had",
                mend=f"rename sources.{self._source.name} in rowcast.toml",
            )
        self._stored = progress
        self._stream = self._stream_from(progress)
        if same_deployment(progress.deployment, self._deployment):
            await self._finish(await self._resume())
        else:
            moved = StreamBrokenError(
                f"the progress is of the deployment {progress.deployment}, "
                f"the URI leads to {self._deployment}"
            )
            await self._finish(await self._over_gap(moved))

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Read and publish until `stop`; raises as `open`, and SourceLostError."""
        on_ready()
        stopped = asyncio.create_task(stop.wait())
        images = asyncio.create_task(self._images.run())
        emptying = asyncio.create_task(self._emptying.run())
        reading = asyncio.create_task(self._cursor.next())
        try:
            while True:
                await asyncio.wait(
                    (stopped, images, emptying, reading), return_when=asyncio.FIRST_COMPLETED
                )
                if stopped.done():
                    return
                for helper in (images, emptying):
                    if helper.done():
                        await helper
                batch = await self._read(reading)
                if self._is_last(batch):
                    await self._finish(batch)
                    reading = asyncio.create_task(self._cursor.next())
                else:
                    reading = asyncio.create_task(self._cursor.next())
                    await self._process(batch)
        finally:
            for task in (stopped, images, emptying, reading):
                task.cancel()
            await asyncio.gather(stopped, images, emptying, reading, return_exceptions=True)

    def _is_last(self, batch: Batch) -> bool:
        """Whether the stream must be opened again after this batch."""
        return batch.closed or (self._cursor.pace is Pace.BARE and bool(batch.events))

    async def _finish(self, batch: Batch) -> None:
        """Process a batch, and those that reopening the stream brings, until it stays open."""
        while self._is_last(batch):
            await self._process(batch)
            await self._publish()
            # An invalidate event closes the stream: a dropped database, which may come back.
            if batch.closed and not self._stream.invalidated:
                raise SourceLostError(f"MongoDB closed the change stream of {self._source.name!r}")
            self._stream.invalidated = False
            batch = await self._resume()
        await self._process(batch)

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
        # A heartbeat is written though nothing has moved: it is how a capture of an idle
        # database learns that another has taken over.
        if (group and not cut) or heartbeat:
            await self._publish()

    async def _publish(self) -> None:
        group, self._group = self._group, ChangeGroup()
        await self._store(group, self._stream.progress)
        self._emptying.request(self._stream.read_outbox)
        self._stream.read_outbox.clear()

    async def _store(self, group: ChangeGroup, progress: MongoProgress) -> None:
        await self._publisher.publish(group, progress.encode())
        self._stored = progress
        self._stored_at_s = time.monotonic()

    async def _read(self, reading: asyncio.Task[Batch]) -> Batch:
        try:
            return await reading
        except PyMongoError as error:
            broken = gap_in(error)
            if broken is None:
                raise
            slower = self._cursor.pace.slower
            if broken.code == TOO_LARGE and slower is not None:
                return await self._resume(slower)
            return await self._over_gap(broken)

    async def _resume(self, pace: Pace | None = Pace.FULL) -> Batch:
        """Open the stream behind all that was taken, as slowly as it must be."""
        broken: StreamBrokenError | None = None
        while pace is not None:
            try:
                return await self._cursor.open(token_from_json(self._stream.progress.token), pace)
            except PyMongoError as error:
                broken = gap_in(error)
                if broken is None:
                    raise
                pace = pace.slower if broken.code == TOO_LARGE else None
        assert broken is not None  # noqa: S101 - the loop ends otherwise only by returning
        return await self._over_gap(broken)

    async def _begin_now(self) -> Batch:
        batch = await self._cursor.open(None)
        progress = MongoProgress(token_json(batch.token), 0, 0, 0, deployment=self._deployment)
        self._stream = self._stream_from(progress)
        await self._store(ChangeGroup(), progress)
        return batch

    async def _over_gap(self, broken: StreamBrokenError) -> Batch:
        """Say that changes were lost; then go on from now, or raise where that is not allowed."""
        if self._group:
            await self._publish()
        progress = self._stream.progress
        gap = MongoGap(self._source.name, progress, broken.reason, broken.code)
        if self._stored.gap != gap.event_id:
            # Once, however often capture starts and meets the same gap.
            group = ChangeGroup()
            now_ms = time.time_ns() // 1_000_000
            event = gap.event(now_ms)
            group.add(self._cluster.topics.events, event.key, event.value, (), now_ms)
            await self._store(group, replace(progress, gap=gap.event_id))
        error = gap.error()
        if self._source.on_gap == "stop":
            raise error from broken
        _log.warning("%s", error)
        return await self._begin_now()

    def _stream_from(self, progress: MongoProgress) -> MongoStream:
        return MongoStream(
            self._source.name,
            self._cluster.topics,
            progress,
            largest_record_bytes=MAX_RECORD_BYTES - _RECORD_MARGIN_BYTES,
            schemas=self._source.schemas,
        )
