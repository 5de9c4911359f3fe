"""Commands on listeners' runs: what they did, and what was given up."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from rowcast import inspection
from rowcast.commands.invocation import folder_option, run_async
from rowcast.installation import open_installation


@click.command()
@folder_option
@click.option("--listener", help="Only runs of this listener.")
@click.option("--status", "run_status", help="Only runs that ended so: ok, failed, timeout, ...")
@click.option("-n", "count", type=int, default=20, show_default=True, help="So many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
def runs(
    folder: Path, listener: str | None, run_status: str | None, count: int, as_json: bool
) -> None:
    """Show what listeners' runs did."""
    installation = open_installation(folder)
    text = run_async(
        inspection.runs_text(installation, listener, run_status, count=count, as_json=as_json)
    )
    click.echo(text)


@click.command()
@folder_option
@click.option("--listener", help="Only dead letters of this listener.")
@click.option("-n", "count", type=int, default=20, show_default=True, help="So many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
def dead(folder: Path, listener: str | None, count: int, as_json: bool) -> None:
    """Show runs given up, with what is needed to replay them."""
    installation = open_installation(folder)
    click.echo(
        run_async(inspection.dead_text(installation, listener, count=count, as_json=as_json))
    )


COMMANDS: Final = (runs, dead)
