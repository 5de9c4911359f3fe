"""The services, each a process: capture of one source, the router, the HTTP service.

A service runs until SIGTERM or SIGINT, says when it is ready, and ends with a message where it
cannot go on; whoever runs it starts it again, since all that matters stands in Kafka and in the
databases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from api.code_serving import CodeSettings
from api.definition_table import DefinitionTable
from api.event_spill import SpillError
from api.service import ApiService
from api.third_party_api import PartySettings
from cdc.mongo import capture_mongo
from cdc.pgaudit_reads import capture_reads
from cdc.postgres import capture_postgres
from cdc.profiler_reads import capture_profiler_reads
from cdc.topic_creation import ensure_topics
from events.token import TokenVerifier
from listener_runtime.mongo_abandoned import end_abandoned_transactions
from listener_runtime.pool import SandboxPool
from listener_runtime.smtp_sender import SmtpSender
from push.service import PushService
from router.router import Router
from rowcast.code_runner import CodeRunner
from rowcast.errors import ConfigurationError
from rowcast.http_app import make_app
from rowcast.http_server import HttpServer
from rowcast.installation import Installation
from rowcast.key_set import KeySet
from rowcast.outbound import PinnedOutbound
from rowcast.sandbox_settings import pool_settings
from rowcast.served_definitions import ServedDefinitions
from rowcast.supervised_process import READY_VARIABLE
from rowcast.system.operations import served_operations

logger = logging.getLogger(__name__)

Ready: TypeAlias = Callable[[], None]
Service: TypeAlias = Callable[[asyncio.Event, Ready], Awaitable[None]]
LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


def capture_service(installation: Installation, source: str) -> Service:
    """Capture of one source."""

    async def run(stop: asyncio.Event, ready: Ready) -> None:
        cluster = installation.cluster
        if installation.source(source).kind == "postgres":
            postgres = installation.postgres_source(source)
            detail = installation.statement_detail(source)
            await _until_one_ends(
                capture_postgres(postgres, cluster, stop=stop, on_ready=ready),
                capture_reads(postgres, cluster, detail, stop=stop),
            )
        else:
            mongo = installation.mongo_source(source)
            await _until_one_ends(
                capture_mongo(mongo, cluster, stop=stop, on_ready=ready),
                capture_profiler_reads(mongo, cluster, stop=stop),
            )

    return run


async def _until_one_ends(
    changes: Coroutine[None, None, None], reads: Coroutine[None, None, None]
) -> None:
    """Capture of changes, and of reads beside it; the first of them that fails, ends both."""
    loops = (asyncio.create_task(changes), asyncio.create_task(reads))
    try:
        ended, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        for loop in ended:
            loop.result()
        # Told to stop, both end by themselves; reads that another tells now are no reason to.
        await loops[0]
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


def router_service(installation: Installation) -> Service:
    """The router and its sandbox."""

    async def run(stop: asyncio.Event, ready: Ready) -> None:
        pool = SandboxPool(pool_settings(installation), installation.host_settings())
        await pool.start()
        try:
            mail = SmtpSender(installation.smtp_settings())
            await Router(installation.cluster, pool, mail=mail).run(stop, ready)
        finally:
            await pool.close()

    return run


def http_service(installation: Installation) -> Service:
    """Push, its client, the data API, the example's page."""

    async def run(stop: asyncio.Event, ready: Ready) -> None:
        cluster, secret = installation.cluster, installation.jwt_secret
        verifiers = (TokenVerifier(secret), TokenVerifier(secret, nameless=True))
        keys = KeySet(installation.jwks, verifiers)
        push = PushService(cluster, verifiers[0])
        settings = installation.api_settings()
        table = DefinitionTable()
        definitions = ServedDefinitions(cluster, table)
        runner = CodeRunner(cluster, table, partial(code_pool, installation))
        api = ApiService(
            cluster,
            verifiers[1],
            settings,
            make_topics=partial(ensure_topics, cluster),
            code=CodeSettings(table, runner, f"{socket.gethostname()}-{installation.http_port}"),
            parties=PartySettings(table, PinnedOutbound(installation.own_service())),
            operations=served_operations(installation, push),
            mongo_mending=end_abandoned_transactions,
        )
        host = installation.configuration.http.host
        app = make_app(installation, [*push.routes(), *api.routes()])
        server = HttpServer(api.in_front_of(app), host, installation.http_port, ready)
        await keys.start()
        await definitions.start()
        await runner.start()
        await push.start()
        try:
            await api.start()
        except SpillError as error:
            raise ConfigurationError(
                f"{error}; it is for events of writes while Kafka is away, as "
                'http.without_kafka = "spill" asks'
            ) from error
        try:
            await server.run_until(stop)
        finally:
            await push.close()
            await api.close()
            await runner.close()
            await definitions.close()
            await keys.close()

    return run


def code_pool(installation: Installation) -> SandboxPool:
    """The sandbox of custom APIs and hooks, which begins with one process."""
    settings = replace(pool_settings(installation), processes=1)
    return SandboxPool(settings, installation.host_settings())


def run_service(service: Service, loop_factory: LoopFactory | None = None) -> None:
    """Run a service in this process until it is told to stop; raises what it ends with.

    `loop_factory` makes an event loop other than asyncio's own.
    """
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await service(stop, announce_ready)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def announce_ready() -> None:
    """Tell the supervisor, where there is one, and the log."""
    descriptor = os.environ.pop(READY_VARIABLE, "")
    if descriptor:
        with os.fdopen(int(descriptor), "w") as pipe:
            pipe.write("ready\n")
    logger.info("ready")
