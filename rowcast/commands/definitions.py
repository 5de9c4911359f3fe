"""Commands on definitions: apply, show, delete and try them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from rowcast import definition_files, inspection, listener_test
from rowcast.commands.invocation import folder_option, run_async
from rowcast.installation import open_installation


@click.command()
@folder_option
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def apply(folder: Path, paths: tuple[Path, ...]) -> None:
    """Apply definitions (listeners, modules, custom APIs, triggers), files or folders of them."""
    installation = open_installation(folder)
    for definition in run_async(definition_files.apply_files(installation, paths)):
        click.echo(f"{definition.name} (version {definition.version}) {definition.summary}")


@click.command()
@folder_option
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def get(folder: Path, name: str | None, as_json: bool) -> None:
    """List the definitions of all kinds, or show one."""
    installation = open_installation(folder)
    click.echo(run_async(inspection.definitions_text(installation, name, as_json=as_json)))


@click.command()
@folder_option
@click.argument("names", nargs=-1, required=True)
def delete(folder: Path, names: tuple[str, ...]) -> None:
    """Delete definitions of any kind by name."""
    installation = open_installation(folder)
    for name in names:
        run_async(definition_files.delete_definition(installation, name))
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
