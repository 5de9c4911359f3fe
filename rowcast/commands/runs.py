"""Commands on listeners' runs: what they did, what was given up, and to run it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, cast

import click

from events.json_codec import JsonObject
from rowcast import inspection
from rowcast.commands.invocation import ask, print_lines, reach_options
from rowcast.errors import ConfigurationError
from rowcast.system import runs as system

_count_option = click.option(
    "-n", "count", type=int, default=20, show_default=True, help="So many, newest last."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")


@click.command()
@reach_options
@click.option("--listener", help="Only runs of this listener.")
@click.option("--status", "run_status", help="Only runs that ended so: ok, failed, timeout, ...")
@click.option("--event", help="Only runs for the event of this id.")
@click.option("--type", "event_type", help="Only runs for events of this type, or pattern.")
@click.option("--since", help="Only runs since then: 90m, 1d, 2026-11-25T06:00:00Z.")
@_count_option
@_json_option
def runs(  # noqa: PLR0913 - one parameter an option
    folder: Path,
    listener: str | None,
    run_status: str | None,
    event: str | None,
    event_type: str | None,
    since: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Show what listeners' runs did."""
    arguments = system.RunsArguments(listener, run_status, event, event_type, since, count)
    print_lines(
        inspection.runs_text(_objects(ask(folder, system.LIST_RUNS, arguments)), as_json=as_json)
    )


@click.group(invoke_without_command=True)
@reach_options
@click.option("--listener", help="Only dead letters of this listener.")
@click.option(
    "--state",
    type=click.Choice(["open", "replayed", "dropped", "any"]),
    default="open",
    show_default=True,
    help="What was done with them.",
)
@_count_option
@_json_option
@click.pass_context
def dead(
    context: click.Context,
    folder: Path,
    listener: str | None,
    state: str,
    count: int,
    as_json: bool,
) -> None:
    """Show runs given up, with what is needed to replay them; replay or drop them."""
    if context.invoked_subcommand is not None:
        return
    wanted = cast("Literal['open', 'replayed', 'dropped', 'any']", state)
    letters = ask(folder, system.LIST_DEAD, system.DeadArguments(listener, wanted, count))
    bodies = _objects([letter.letter for letter in letters])
    print_lines(inspection.dead_text(bodies, as_json=as_json))


@dead.command("show")
@reach_options
@click.argument("letter_id", metavar="ID")
def show_dead(folder: Path, letter_id: str) -> None:
    """Show one whole, as JSON."""
    letter = ask(folder, system.GET_DEAD, system.LetterArguments(letter_id))
    click.echo(inspection.dead_text(_objects([letter.letter]), as_json=True))


@dead.command("replay")
@reach_options
@click.argument("letter_ids", nargs=-1, metavar="[ID]...")
@click.option("--listener", help="All open ones of this listener.")
def replay_dead(folder: Path, letter_ids: tuple[str, ...], listener: str | None) -> None:
    """Give dead letters' events to their listeners again."""
    if not letter_ids and listener is None:
        raise ConfigurationError("found no dead letter to replay, expected ids or --listener NAME")
    arguments = system.ReplayDeadArguments(list(letter_ids), listener)
    done = ask(folder, system.REPLAY_DEAD, arguments)
    for letter in done:
        click.echo(f"{letter.id} replayed, {letter.listener}")
    if not done:
        click.echo(f"no open dead letters of {listener}")


@dead.command("drop")
@reach_options
@click.argument("letter_ids", nargs=-1, required=True, metavar="ID...")
def drop_dead(folder: Path, letter_ids: tuple[str, ...]) -> None:
    """Take dead letters off the list."""
    for letter_id in letter_ids:
        ask(folder, system.DROP_DEAD, system.LetterArguments(letter_id))
        click.echo(f"{letter_id} dropped")


@click.command()
@reach_options
@click.argument("listener")
@click.option("--since", help="Events since then: 90m, 1d, 2026-11-25T06:00:00Z.")
@click.option("--until", help="Events until then; until now by default.")
@click.option("--type", "event_type", help="Only events of this type, or pattern.")
@click.option("--event", help="The one event of this id.")
@click.option("--limit", type=int, default=10_000, show_default=True, help="So many at most.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
def replay(  # noqa: PLR0913 - one parameter an option
    folder: Path,
    listener: str,
    since: str | None,
    until: str | None,
    event_type: str | None,
    event: str | None,
    limit: int,
    dry_run: bool,
) -> None:
    """Give one listener events of the past: those it asks for, of a time."""
    arguments = system.ReplayArguments(listener, event, since, until, event_type, limit, dry_run)
    found = ask(folder, system.REPLAY, arguments)
    verb = "would be given" if found.dry_run else "are given"
    more = "" if found.complete else "; there are more, --limit or --until cuts them off"
    click.echo(f"{found.events:,} events {verb} to {found.listener}{more}")


def _objects(bodies: Sequence[dict[str, object]]) -> list[JsonObject]:
    return [cast("JsonObject", body) for body in bodies]


COMMANDS: Final = (runs, dead, replay)
