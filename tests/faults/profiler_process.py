"""Capture of a MongoDB's reads as a process of its own: prints `ready`, then `group` for each
group of them that Kafka has.

python tests/faults/profiler_process.py BOOTSTRAP PREFIX SOURCE URI DATABASE
"""

from __future__ import annotations

import asyncio
import signal
import sys

from cdc import profiler_reads
from cdc.change_group import ChangeGroup
from cdc.mongo import MongoSource
from cdc.publisher import Publisher
from events.cluster import Cluster
from events.topic import Topics


class TellingPublisher(Publisher):
    """Says when a group is on Kafka, so that a test may kill it there and thereabouts."""

    async def publish(self, group: ChangeGroup, progress: bytes) -> None:
        await super().publish(group, progress)
        if group:
            print("group", flush=True)


async def main(bootstrap: str, prefix: str, source: str, uri: str, database: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    cluster = Cluster(bootstrap, Topics(prefix), (source,))
    print("ready", flush=True)
    mongo = MongoSource(source, uri, database)
    await profiler_reads.capture_profiler_reads(mongo, cluster, stop=stop)


if __name__ == "__main__":
    profiler_reads.Publisher = TellingPublisher
    asyncio.run(main(*sys.argv[1:6]))
