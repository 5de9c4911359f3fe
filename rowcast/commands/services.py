"""Commands that are a service themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import uvloop

from rowcast import service
from rowcast.commands.invocation import folder_option
from rowcast.installation import open_installation


@click.group()
def run() -> None:
    """Run one service in the foreground, until Ctrl-C or SIGTERM."""


@run.command("cdc")
@folder_option
@click.option("--source", required=True, help="Name of the source, as in rowcast.toml.")
def run_cdc(folder: Path, source: str) -> None:
    """Capture one source."""
    service.run_service(service.capture_service(open_installation(folder), source))


@run.command("router")
@folder_option
def run_router(folder: Path) -> None:
    """Match events to listeners and run them."""
    service.run_service(service.router_service(open_installation(folder)))


@run.command("http")
@folder_option
def run_http(folder: Path) -> None:
    """Serve WebSockets and HTTP."""
    # Its calls are small and many: with asyncio's own loop each costs a quarter more.
    service.run_service(service.http_service(open_installation(folder)), uvloop.new_event_loop)


COMMANDS: Final = (run,)
