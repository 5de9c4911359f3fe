"""Commands on events: emit one, follow them, see and cancel what waits, see who is told."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Final

import click
import msgspec

from api.system_operation import NoArguments
from events.json_codec import JsonObject, decode
from rowcast import inspection
from rowcast.commands.invocation import (
    ask,
    client,
    folder_option,
    print_lines,
    reach_options,
    run_async,
)
from rowcast.errors import ConfigurationError
from rowcast.installation import open_installation
from rowcast.schedules import schedules_text
from rowcast.system import schedules as scheduling
from rowcast.system import subscriptions as subscribing


@click.command()
@reach_options
@click.argument("event_type")
@click.argument("data", default="{}")
@click.option("--key", help="Events of one key stay in order.")
def emit(folder: Path, event_type: str, data: str, key: str | None) -> None:
    """Emit a custom event: rowcast emit custom.hello '{"to": "world"}'."""
    try:
        value = decode(data)
    except ValueError as error:
        raise ConfigurationError(
            f"found the data {data!r}, expected JSON: {error}. In a shell, put it in single "
            """quotes: '{"to": "world"}'"""
        ) from error
    event: JsonObject = {"type": event_type, "data": value}
    if key is not None:
        event["key"] = key
    click.echo(run_async(client(folder).emit(event)))


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


@click.group(invoke_without_command=True)
@reach_options
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
@click.pass_context
def schedules(context: click.Context, folder: Path, as_json: bool) -> None:
    """Show what waits to be emitted, once or again and again; cancel it."""
    if context.invoked_subcommand is None:
        pending = ask(folder, scheduling.LIST_SCHEDULES, NoArguments())
        print_lines(schedules_text(pending, as_json=as_json))


@schedules.command("cancel")
@reach_options
@click.argument("schedule_ids", nargs=-1, required=True, metavar="ID...")
def cancel_schedule(folder: Path, schedule_ids: tuple[str, ...]) -> None:
    """Emit it no more."""
    for schedule_id in schedule_ids:
        arguments = scheduling.ScheduleArguments(schedule_id)
        cancelled = ask(folder, scheduling.CANCEL_SCHEDULE, arguments)
        click.echo(f"{cancelled.id} cancelled, {cancelled.type}")


@click.group(invoke_without_command=True)
@reach_options
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
@click.pass_context
def subscriptions(context: click.Context, folder: Path, as_json: bool) -> None:
    """Show WebSocket registrations: who, for what, since when; end one."""
    if context.invoked_subcommand is not None:
        return
    found = ask(folder, subscribing.LIST_SUBSCRIPTIONS, NoArguments())
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(one))
    else:
        click.echo(inspection.subscriptions_text(found))


@subscriptions.command("end")
@reach_options
@click.argument("subscription_ids", nargs=-1, required=True, metavar="ID...")
def end_subscription(folder: Path, subscription_ids: tuple[str, ...]) -> None:
    """End registrations; their clients are told."""
    for subscription_id in subscription_ids:
        arguments = subscribing.SubscriptionArguments(subscription_id)
        ended = ask(folder, subscribing.UNREGISTER, arguments)
        click.echo(f"{ended.id} ended, {ended.pattern} of {ended.subject}")


COMMANDS: Final = (emit, tail, schedules, subscriptions)
