"""One contestant of `make bench-api` as a process: prints `ready` once it listens.

python bench/api_server.py bare|silent|calls|events PORT DSN BOOTSTRAP
"""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from typing import LiteralString

import psycopg
import uvloop
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.call_journal import CallJournal
from api.service import ApiService
from api.settings import ApiSettings, PostgresApiSource
from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster
from events.event import OutgoingEvent
from events.token import TokenVerifier
from rowcast.http_server import HttpServer

SECRET = "a secret of thirty-two characters"
CONNECTIONS = 16
ONE: LiteralString = """
    select coalesce(json_agg(t), '[]')::text
    from (select id, name, price from items where id = %s) t
"""
MANY: LiteralString = """
    select coalesce(json_agg(t), '[]')::text
    from (select id, name, price, at from items where shelf = %s order by id limit 20) t
"""
INSERT: LiteralString = "insert into items (name, price, shelf) values (%s, %s, %s)"


class SilentJournal(CallJournal):
    """Takes every event and sends none: what calls cost without their events."""

    def check_read(self) -> None:
        """There is always room."""

    def note(self, event: OutgoingEvent, topic: str | None = None) -> None:
        """Forget it."""

    async def record(
        self, event: OutgoingEvent, refused: OutgoingEvent, topic: str | None = None
    ) -> None:
        """Forget it at once."""


def bare(dsn: str) -> tuple[AsyncConnectionPool[psycopg.AsyncConnection], list[BaseRoute]]:
    """The obvious handler: Starlette, psycopg's pool, the same queries."""
    pool = AsyncConnectionPool[psycopg.AsyncConnection](
        dsn, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True}
    )

    async def items(request: Request) -> Response:
        asked = request.query_params
        statement, name = (ONE, "id") if "id" in asked else (MANY, "shelf")
        value = int(asked[name].removeprefix("eq."))
        async with pool.connection() as connection:
            row = await (await connection.execute(statement, (value,))).fetchone()
        return Response(row[0] if row else "[]", media_type="application/json")

    async def insert(request: Request) -> Response:
        row = await request.json()
        values = (row["name"], row["price"], row["shelf"])
        async with pool.connection() as connection:
            await connection.execute(INSERT, values)
        return Response(status_code=201)

    return pool, [
        Route("/rest/v1/items", items),
        Route("/rest/v1/items", insert, methods=["POST"]),
    ]


async def main(kind: str, port: int, dsn: str, bootstrap: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def ready() -> None:
        print("ready", flush=True)

    if kind == "bare":
        pool, routes = bare(dsn)
        await pool.open(wait=True)
        await HttpServer(Starlette(routes=routes), "127.0.0.1", port, ready).run_until(stop)
        await pool.close()
        return
    cluster = Cluster(bootstrap)
    await ensure_own_topics(cluster)
    # `calls`: each call has its event, and the rows it reads have none on their own topic.
    source = PostgresApiSource(dsn, "none", "bench", "after" if kind == "events" else "off")
    settings = ApiSettings({"bench": source}, connections_max=CONNECTIONS)
    journal = SilentJournal(cluster, cluster.topics.api) if kind == "silent" else None
    make_topics = partial(ensure_topics, cluster)
    service = ApiService(cluster, TokenVerifier(SECRET), settings, journal, make_topics)
    await service.start()
    app = service.in_front_of(Starlette(routes=service.routes()))
    await HttpServer(app, "127.0.0.1", port, ready).run_until(stop)
    await service.close()


if __name__ == "__main__":
    kind, port, dsn, bootstrap = sys.argv[1:5]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(kind, int(port), dsn, bootstrap))
