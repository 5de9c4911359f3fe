"""A mongod of a test's own, which it may stop, kill and start again, and its profiler's reads."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from cdc.mongo import MongoSource
from cdc.profiler_reads import capture_profiler_reads
from cdc.topic_reading import read_to_end
from events.cluster import Cluster
from events.json_codec import decode_object
from events.topic import reads_topic
from infra.embedded.mongo import EmbeddedMongo

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - JSON and BSON taken apart by assertions
LIMIT_S = 60.0


class ProfiledServer:
    """One mongod's process."""

    def __init__(self, mongo: EmbeddedMongo) -> None:
        self.mongo = mongo
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is primary."""
        self.mongo.prepare()
        spec = self.mongo.process()
        with spec.log.open("ab") as log:
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                spec.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **spec.environment},
                start_new_session=True,
            )
        async with asyncio.timeout(LIMIT_S):
            while not await self.mongo.answers():
                await asyncio.sleep(0.05)
            await self.mongo.initialise()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it, or kill it."""
        if self._process is not None:
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait)
            self._process = None


@asynccontextmanager
async def capturing_reads(source: MongoSource, cluster: Cluster) -> AsyncGenerator[None]:
    """Capture of reads; stopped at the end."""
    stop = asyncio.Event()
    task = asyncio.create_task(capture_profiler_reads(source, cluster, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await task


class Told:
    """What stands on Kafka of a source's reads."""

    def __init__(self, cluster: Cluster, source: MongoSource) -> None:
        self._cluster = cluster
        self._source = source

    async def reads(self, collection: str, count: int = 0) -> list[Json]:
        """All reads of a collection, once there are so many, oldest first."""
        topic = reads_topic(self._source.name, str(self._source.database), collection)
        found: list[Json] = []
        deadline = time.monotonic() + LIMIT_S
        while True:
            found = [body for body in await self._values(topic) if body["op"] == "read"]
            if len(found) >= count:
                return sorted(found, key=lambda read: read["source"]["ts_ms"])
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def gaps(self, count: int = 0) -> list[Json]:
        """What its gaps tell, once there are so many."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            values = await self._values(self._cluster.topics.events)
            found = [body["data"] for body in values if body["type"] == "system.gap"]
            mine = [gap for gap in found if gap["source"] == self._source.name]
            if len(mine) >= count:
                return mine
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)

    async def _values(self, topic: str) -> list[Json]:
        records = await read_to_end(self._cluster, topic, self._cluster.partitions)
        return [decode_object(record.value) for record in records if record.value]
