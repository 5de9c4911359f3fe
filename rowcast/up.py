"""`rowcast up`: from a folder to everything running, and back again on Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cdc.topic_creation import ensure_own_topics
from infra.embedded.server import EmbeddedServer, check_port_free
from infra.process import ProcessSpec
from rowcast.example import check_examples, example_servers, load_examples, load_tables
from rowcast.installation import Installation, make_installation, open_installation
from rowcast.listener_access import prepare_listener_access
from rowcast.supervisor import Supervisor
from rowcast.welcome import welcome

START_LIMIT_S = 120.0
EXAMPLE_LIMIT_S = 20.0


async def up(
    folder: Path,
    port_base: int | None,
    say: Callable[[str], None],
    examples: Sequence[str] = (),
) -> None:
    """Start everything in a folder, and keep it running until SIGINT or SIGTERM.

    `examples` are loaded into a new folder; the shop where none is named.
    Raises RowcastError or InfraError, with the mend, where it cannot be started.
    """
    begun = time.monotonic()
    make_installation(folder.absolute(), port_base, tuple(examples) or ("shop",))
    installation = open_installation(folder, port_base=port_base)
    check_examples(installation, examples)
    supervisor = Supervisor(installation, say)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        starting = asyncio.create_task(_start(installation, supervisor, say))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        else:
            await starting
            say(welcome(installation, time.monotonic() - begun))
        await stopped
        say("stopping; everything is kept, `rowcast up` goes on from here")
    finally:
        await supervisor.stop()


async def _start(
    installation: Installation, supervisor: Supervisor, say: Callable[[str], None]
) -> None:
    for server in installation.servers:
        for port in server.ports:
            check_port_free(server.name, port)
    check_port_free("HTTP", installation.http_port)
    small_servers = example_servers(installation)
    for one in small_servers:
        check_port_free(one.process.name, one.port)
    async with asyncio.TaskGroup() as servers:
        for server in installation.servers:
            servers.create_task(_start_server(server, supervisor, say))
    await ensure_own_topics(installation.cluster)
    await prepare_listener_access(installation)
    await load_tables(installation)
    for one in small_servers:
        await supervisor.ready(supervisor.start(one.process, one.answers), EXAMPLE_LIMIT_S)
    begun = time.monotonic()
    services = [supervisor.start(spec) for spec in service_specs(installation)]
    for process in services:
        await supervisor.ready(process, START_LIMIT_S)
    say(f"capture, router and http are ready ({time.monotonic() - begun:.1f} s)")
    await load_examples(installation, say)


async def _start_server(
    server: EmbeddedServer, supervisor: Supervisor, say: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    say(f"starting {server.name} on port {server.ports[0]} ...")
    await asyncio.to_thread(server.prepare)
    process = supervisor.start(server.process(), server.answers)
    await supervisor.ready(process, START_LIMIT_S)
    await server.initialise()
    say(f"{server.name} is ready ({time.monotonic() - begun:.1f} s)")


def service_specs(installation: Installation) -> list[ProcessSpec]:
    """The services of an installation as processes."""
    run = (sys.executable, "-m", "rowcast", "run")
    place = ("--dir", str(installation.folder))
    commands = {
        **{
            f"capture-{source}": (*run, "cdc", "--source", source, *place)
            for source in installation.configuration.sources
        },
        "router": (*run, "router", *place),
        "http": (*run, "http", *place),
    }
    # A service reads the same configuration; ports given on the command line go along.
    environment = {"ROWCAST__PORT_BASE": str(installation.port_base), "PYTHONUNBUFFERED": "1"}
    return [
        ProcessSpec(name, argv, installation.logs / f"{name}.log", environment)
        for name, argv in commands.items()
    ]
