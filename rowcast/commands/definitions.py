"""Commands on definitions: apply, show, delete and try them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from api.system_operation import NoArguments
from rowcast import inspection, listener_test
from rowcast.commands.invocation import ask, folder_option, reach_options, run_async
from rowcast.definition_files import read_files
from rowcast.installation import open_installation
from rowcast.system import definitions as system


@click.command()
@reach_options
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def apply(folder: Path, paths: tuple[Path, ...]) -> None:
    """Apply definitions (listeners, modules, custom APIs, triggers), files or folders of them."""
    files = [system.DefinitionFile(str(file.path), file.text) for file in read_files(paths)]
    for definition in ask(folder, system.APPLY, system.ApplyArguments(files)):
        click.echo(f"{definition.name} (version {definition.version}) {definition.summary}")


@click.command()
@reach_options
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def get(folder: Path, name: str | None, as_json: bool) -> None:
    """List the definitions of all kinds, or show one."""
    if name is None:
        found = ask(folder, system.LIST_DEFINITIONS, NoArguments())
        click.echo(inspection.definitions_text(found, as_json=as_json))
        return
    one = ask(folder, system.GET_DEFINITION, system.NameArguments(name))
    click.echo(inspection.definition_text(one, as_json=as_json))


@click.command()
@reach_options
@click.argument("names", nargs=-1, required=True)
def delete(folder: Path, names: tuple[str, ...]) -> None:
    """Delete definitions of any kind by name."""
    for name in names:
        ask(folder, system.DELETE_DEFINITION, system.NameArguments(name))
        click.echo(f"{name} deleted")


@click.command("test")
@folder_option
@click.argument("listener")
@click.option(
    "--event",
    "event_file",
    type=click.Path(path_type=Path, allow_dash=False),
    required=True,
    help="File with JSON: the event, as `rowcast tail` prints it, or an API's request.",
)
@click.option("--dry-run", is_flag=True, help="Leave nothing behind in databases and elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def run_test(folder: Path, listener: str, event_file: Path, dry_run: bool, as_json: bool) -> None:
    """Run a listener, custom API or hook, a file or an applied one, against a sample."""
    text, is_well = run_async(
        listener_test.run_test(
            open_installation(folder), listener, event_file, dry_run=dry_run, as_json=as_json
        )
    )
    click.echo(text)
    sys.exit(0 if is_well else 1)


COMMANDS: Final = (apply, get, delete, run_test)
