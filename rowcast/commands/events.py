"""Commands on events: emit one, follow them, see what waits."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Final

import click

from rowcast import inspection
from rowcast.commands.invocation import folder_option, run_async
from rowcast.emission import emit_event
from rowcast.installation import open_installation
from rowcast.schedules import schedules_text


@click.command()
@folder_option
@click.argument("event_type")
@click.argument("data", default="{}")
@click.option("--key", help="Events of one key stay in order.")
def emit(folder: Path, event_type: str, data: str, key: str | None) -> None:
    """Emit a custom event: rowcast emit custom.hello '{"to": "world"}'."""
    click.echo(run_async(emit_event(open_installation(folder), event_type, data, key)))


@click.command()
@folder_option
@click.argument("pattern", default="**")
@click.option("--from-beginning", is_flag=True, help="All that Kafka still has, then what comes.")
@click.option("--dump", is_flag=True, help="All that Kafka has now, then stop.")
@click.option("--count", type=int, help="Stop after so many events.")
@click.option("--full", is_flag=True, help="With topic, partition, offset and headers.")
def tail(
    folder: Path, pattern: str, from_beginning: bool, dump: bool, count: int | None, full: bool
) -> None:
    """Print events as JSON lines as they come."""
    lines = inspection.event_lines(
        open_installation(folder),
        pattern,
        from_beginning=from_beginning or dump,
        to_end=dump,
        full=full,
    )

    async def write() -> None:
        written = 0
        async with aclosing(lines):
            async for line in lines:
                click.echo(line)
                written += 1
                if written == count:
                    break

    run_async(write())


@click.command()
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
def schedules(folder: Path, as_json: bool) -> None:
    """Show what waits to be emitted, once or again and again."""
    click.echo(run_async(schedules_text(open_installation(folder), as_json=as_json)))


COMMANDS: Final = (emit, tail, schedules)
