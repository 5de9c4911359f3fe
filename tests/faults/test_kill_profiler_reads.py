"""Capture of a MongoDB's reads is killed again and again while they go on: each is told once."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import uuid
from collections import Counter
from pathlib import Path

import pytest
from pymongo import MongoClient

from cdc.mongo import MongoSource
from events.cluster import Cluster
from events.json_codec import decode_object
from events.topic import Topics
from rowcast import mongo_audit
from tests.cdc.profiled_server import Told
from tests.faults.processes import ServiceProcess

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = int(os.environ.get("KILLS", "5"))


class Reader(threading.Thread):
    """Reads without a pause; the n-th read asks for n documents at most."""

    def __init__(self, uri: str, database: str) -> None:
        super().__init__()
        self._uri, self._database = uri, database
        self._stopped = threading.Event()
        self.count = 0

    def run(self) -> None:
        with MongoClient[dict[str, object]](self._uri) as client:
            while not self._stopped.wait(0.002):
                self.count += 1
                list(client[self._database]["goods"].find({}, limit=self.count))

    def stop(self) -> None:
        """After the read in hand."""
        self._stopped.set()
        self.join()


def test_each_read_is_told_once_however_often_capture_is_killed(
    mongo_uri: str, kafka_bootstrap: str, tmp_path: Path
) -> None:
    name, database = (f"k{uuid.uuid4().hex[:12]}" for _ in range(2))
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (name,))
    source = MongoSource(name, mongo_uri, database)
    arguments = (kafka_bootstrap, cluster.topics.prefix, name, mongo_uri, database)
    capture = ServiceProcess(tmp_path / "capture.log", "profiler_process.py", *arguments)
    moments = random.Random(1)
    reader = Reader(mongo_uri, database)
    with MongoClient[dict[str, object]](mongo_uri) as client:
        client[database]["goods"].insert_one({})
        asyncio.run(mongo_audit.enable(source, "goods"))
        reader.start()
        for _ in range(KILLS):
            with capture.started() as process:
                capture.wait_until_ready(process)
                assert process.stdout is not None
                for _ in range(moments.randrange(1, 10)):
                    assert process.stdout.readline() == b"group\n", capture.said()
        reader.stop()
        with capture.started() as process:
            capture.wait_until_ready(process)
            asyncio.run(mongo_audit.disable(source, cluster, "goods"))
        client.drop_database(database)
    told = Told(cluster, source)
    reads = asyncio.run(told.reads("goods"))
    limits = Counter(decode_object(read["statement"]["text"])["limit"] for read in reads)
    assert limits == Counter(range(1, reader.count + 1))
    assert asyncio.run(told.gaps()) == []
    assert reader.count > KILLS * 10
