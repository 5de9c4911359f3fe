"""Part of `make bench-reads`: what MongoDB's profiler costs whoever reads, and capture of it.

One client finds one document by its `_id`, or a thousand at once, again and again: with the
profiler off, with `rowcast audit` of another collection and of this one, while capture in a
process of its own tells of its reads, and with the profiler at level 2, which writes everything
down. Beside the rates stands what a find takes of mongod's CPU. The best of several rounds counts.
SECONDS_EACH changes how long. docs/read-audit.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import psutil
from pymongo import MongoClient
from pymongo.collection import Collection

from bench.waking import awake
from cdc.mongo import MongoSource
from events.cluster import Cluster
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.mongo import EmbeddedMongo
from rowcast import mongo_audit
from tests.conftest import running
from tests.faults.processes import ServiceProcess
from tests.port_base import free_ports

SECONDS = float(os.environ.get("SECONDS_EACH", "10"))
ROUNDS = 3
ROWS = 100_000
MANY = 1_000

Document = dict[str, object]
Found = dict[str, tuple[float, float, float]]


def one(items: Collection[Document]) -> int:
    """Find one by its id."""
    return 1 if items.find_one({"_id": random.randrange(ROWS)}) else 0


def many(items: Collection[Document]) -> int:
    """Find many, in one answer."""
    first = random.randrange(ROWS - MANY)
    wanted: Document = {"_id": {"$gte": first}}
    return len(items.find(wanted, limit=MANY, batch_size=MANY).to_list())


def rate(items: Collection[Document], read: Callable[[Collection[Document]], int]) -> float:
    """Documents a second."""
    count, begun = 0, time.perf_counter()
    while (took := time.perf_counter() - begun) < SECONDS:
        count += read(items)
    return count / took


def measure(found: Found, label: str, items: Collection[Document], server: psutil.Process) -> None:
    """One round of one line of the table."""
    begun_s = _cpu_s(server)
    ones = rate(items, one)
    cpu_us = (_cpu_s(server) - begun_s) / (ones * SECONDS) * 1e6
    before = found.get(label, (0.0, cpu_us, 0.0))
    found[label] = (
        max(before[0], ones),
        min(before[1], cpu_us),
        max(before[2], rate(items, many)),
    )


def _cpu_s(server: psutil.Process) -> float:
    times = server.cpu_times()
    return times.user + times.system


def _mongod(folder: Path) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or ()):
            return process
    raise SystemExit(f"no mongod works in {folder}")


@contextmanager
def audited(
    source: MongoSource, cluster: Cluster, collection: Collection[Document], folder: Path
) -> Generator[None]:
    """With a collection's reads as events, and capture that tells them."""
    arguments = (cluster.bootstrap, cluster.topics.prefix, source.name, source.uri, "bench")
    capture = ServiceProcess(folder / "capture.log", "profiler_process.py", *arguments)
    asyncio.run(mongo_audit.enable(source, collection.name))
    collection.find_one({})
    with capture.started() as process:
        capture.wait_until_ready(process)
        if process.stdout is None or process.stdout.readline() != b"group\n":
            raise SystemExit(f"capture told of no read: {capture.said()}")
        # What it says of each group is read, or it would wait for a reader.
        saying = Thread(target=process.communicate)
        saying.start()
        yield
        asyncio.run(mongo_audit.disable(source, cluster, collection.name))
        process.terminate()
        saying.join()


def contest(mongo: EmbeddedMongo, kafka: EmbeddedKafka, folder: Path) -> Found:
    """All rounds."""
    source = MongoSource("bench", mongo.uri, "bench")
    cluster = Cluster(kafka.bootstrap)
    found: Found = {}
    server = _mongod(mongo.folder)
    with MongoClient[Document](mongo.uri) as client:
        database = client["bench"]
        items = database["items"]
        items.insert_many([{"_id": n, "name": f"item {n}", "shelf": n % 50} for n in range(ROWS)])
        database["others"].insert_one({})
        for _ in range(ROUNDS):
            measure(found, "profiler off", items, server)
            with audited(source, cluster, database["others"], folder):
                measure(found, "another collection audited", items, server)
            with audited(source, cluster, items, folder):
                measure(found, "this collection audited", items, server)
            database.command({"profile": 2})
            measure(found, "profiler at level 2", items, server)
            database.command({"profile": 0})
            database.drop_collection("system.profile")
    return found


def main() -> None:
    """Start the servers, measure, print."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        ports = free_ports(3)
        mongo = EmbeddedMongo(folder / "mongo", ports[0], folder / "mongo.log")
        kafka = EmbeddedKafka(folder / "kafka", ports[1], ports[2], folder / "kafka.log")
        with running(mongo), running(kafka), awake():
            found = contest(mongo, kafka, folder)
    head = ("MongoDB", "finds/s", "mongod us", "documents/s")
    sys.stdout.write(f"{head[0]:<34} {head[1]:>12} {head[2]:>10} {head[3]:>14}\n")
    for label, (ones, cpu_us, manies) in found.items():
        sys.stdout.write(f"{label:<34} {ones:>12,.0f} {cpu_us:>10,.0f} {manies:>14,.0f}\n")


if __name__ == "__main__":
    main()
