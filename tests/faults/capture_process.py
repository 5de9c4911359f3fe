"""One capture as a process of its own, for tests that kill it: prints `ready` once it is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from cdc import postgres_chunk, transaction_lane
from cdc.mongo import MongoSource, capture_mongo
from cdc.pgaudit_reads import capture_reads
from cdc.postgres import PostgresSource, capture_postgres
from cdc.statement_read import StatementDetail
from events.cluster import Cluster
from events.topic import Topics


def announce() -> None:
    print("ready", flush=True)


async def run(arguments: argparse.Namespace) -> None:
    name, address, scope = str(arguments.name), str(arguments.address), str(arguments.scope)
    cluster = Cluster(str(arguments.bootstrap), Topics(str(arguments.prefix)), (name,))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    if arguments.kind == "mongo":
        mongo = MongoSource(name, address, scope)
        await capture_mongo(mongo, cluster, stop=stop, on_ready=announce)
    else:
        if arguments.chunk_rows:
            postgres_chunk.CHUNK_ROWS = int(arguments.chunk_rows)
        postgres = PostgresSource(
            name,
            address,
            scope,
            scope,
            tables=(f"{scope}.*",),
            heartbeat_s=0.5,
            timeout_s=float(arguments.source_timeout_s),
            snapshot="initial",
        )
        capture = capture_postgres(postgres, cluster, stop=stop, on_ready=announce)
        if not arguments.reads:
            await capture
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(capture)
            both.create_task(capture_reads(postgres, cluster, StatementDetail(), stop=stop))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["mongo", "postgres"])
    for argument in ("bootstrap", "prefix", "name", "address", "scope"):
        parser.add_argument(argument, help="scope: database, or schema, slot and publication")
    parser.add_argument("--chunk-rows", type=int, help="load what is there in such chunks")
    parser.add_argument("--reads", action="store_true", help="read the server's log too")
    parser.add_argument("--source-timeout-s", type=float, default=60)
    parser.add_argument("--kafka-timeout-s", type=float, default=transaction_lane.TIMEOUT_S)
    arguments = parser.parse_args()
    transaction_lane.TIMEOUT_S = arguments.kafka_timeout_s
    asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
