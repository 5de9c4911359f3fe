"""Commands on what runs: start it, look at it, make a token for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from api.system_operation import NoArguments
from events.token import Role
from rowcast import inspection
from rowcast.commands.invocation import (
    address_elsewhere,
    ask,
    folder_option,
    reach_options,
    run_async,
)
from rowcast.doctor import examine
from rowcast.example_files import example_names
from rowcast.installation import open_installation
from rowcast.status import read_status
from rowcast.system import installation
from rowcast.token_command import read_claims, token_text
from rowcast.up import up as start_everything


@click.command()
@folder_option
@click.option("--port-base", type=int, help="First of the ports: HTTP, Kafka, PostgreSQL, MongoDB.")
@click.option(
    "--example",
    "examples",
    multiple=True,
    type=click.Choice(example_names()),
    help="Example to load into a new folder; several if repeated. The shop where none is named.",
)
def up(folder: Path, port_base: int | None, examples: tuple[str, ...]) -> None:
    """Start everything, embedded servers included, and keep it running."""
    run_async(start_everything(folder, port_base, click.echo, examples))


@click.command()
@reach_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(folder: Path, as_json: bool) -> None:
    """Say what runs, and where, how much log slots keep, and what is being loaded."""
    if address_elsewhere() is not None:
        found = ask(folder, installation.STATUS, NoArguments())
    else:
        # Asked most where nothing runs that could answer.
        seen = read_status(folder / "status.json")
        base = None if seen is None else seen.port_base
        found = run_async(installation.whole_status(open_installation(folder, port_base=base)))
    text, runs = inspection.status_text(found, as_json=as_json)
    click.echo(text)
    sys.exit(0 if runs else 1)


@click.command()
@reach_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(folder: Path, as_json: bool) -> None:
    """Look for what is wrong or can lose data, and say how to mend it."""
    if address_elsewhere() is not None:
        findings = ask(folder, installation.DOCTOR, NoArguments())
    else:
        findings = run_async(examine(open_installation(folder)))
    click.echo(inspection.findings_text(findings, as_json=as_json))
    sys.exit(1 if any(finding.severity == "error" for finding in findings) else 0)


@click.command()
@reach_options
@click.option(
    "--role",
    type=click.Choice(["anon", "authenticated", "service_role"]),
    default="authenticated",
    show_default=True,
)
@click.option("--subject", default="developer", show_default=True, help="Who holds it.")
@click.option("--expires", default="24h", show_default=True, help="Lifetime: 90s, 15m, 24h, 30d.")
@click.option("--claims", default="{}", help="More claims, as a JSON object.")
def token(folder: Path, role: Role, subject: str, expires: str, claims: str) -> None:
    """Make a token for the HTTP service."""
    more = read_claims(claims)
    if address_elsewhere() is not None:
        arguments = installation.TokenArguments(role, subject, expires, dict(more))
        click.echo(ask(folder, installation.MAKE_TOKEN, arguments).token)
        return
    click.echo(token_text(open_installation(folder), role, subject, expires, more))


COMMANDS: Final = (up, status, doctor, token)
