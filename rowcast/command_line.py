"""The command `rowcast` and its subcommands; each is short and calls the module that does it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn, TypeVar, cast

import click

from cdc.errors import CaptureError, FencedError
from cdc.postgres_verification import VerifyLimits
from events.errors import EventsError
from events.token import Role
from infra.errors import InfraError
from listener_runtime.errors import ImageError, WheelError
from router.errors import RouterError
from router.module import Module
from rowcast import (
    definition_files,
    inspection,
    listener_test,
    packages,
    read_audit,
    service,
    verify_command,
)
from rowcast.doctor import examine
from rowcast.emission import emit_event
from rowcast.errors import NotRunningError, RowcastError
from rowcast.installation import DEFAULT_FOLDER, open_installation
from rowcast.schedules import schedules_text
from rowcast.slot_status import read_slots
from rowcast.snapshot_command import ask_for_snapshot, read_snapshots
from rowcast.status import read_status, with_truth
from rowcast.supervised_process import NOT_AGAIN_EXIT
from rowcast.token_command import token_text
from rowcast.up import up as start_everything

_Result = TypeVar("_Result")
_EXIT_MENDABLE = 2
_MENDABLE = (
    *(RowcastError, InfraError, CaptureError, RouterError, EventsError),
    *(ImageError, WheelError),
)

_folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder of the installation.",
)
_tenant_option = click.option(
    "--tenant", default="default", show_default=True, help="Whose listeners may import them."
)


class _Commands(click.Group):
    """Turns what the user can mend into one message and an exit status, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except _MENDABLE as error:
            _end(error)
        except KeyboardInterrupt:
            sys.exit(130)
        except BaseExceptionGroup as group:
            mendable = group.subgroup(_MENDABLE)
            if mendable is None:
                raise
            _end(_first_leaf(mendable))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rowcast")
def main() -> None:
    """Turn what happens in databases and APIs into events, and events into action."""
    # What matters of the Kafka client's troubles reaches us as exceptions, said with their mend.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@main.command()
@_folder_option
@click.option("--port-base", type=int, help="First of the ports: HTTP, Kafka, PostgreSQL, MongoDB.")
def up(folder: Path, port_base: int | None) -> None:
    """Start everything, embedded servers included, and keep it running."""
    _run(start_everything(folder, port_base, click.echo))


@main.group()
def run() -> None:
    """Run one service in the foreground, until Ctrl-C or SIGTERM."""


@run.command("cdc")
@_folder_option
@click.option("--source", required=True, help="Name of the source, as in rowcast.toml.")
def run_cdc(folder: Path, source: str) -> None:
    """Capture one source."""
    service.run_service(service.capture_service(open_installation(folder), source))


@run.command("router")
@_folder_option
def run_router(folder: Path) -> None:
    """Match events to listeners and run them."""
    service.run_service(service.router_service(open_installation(folder)))


@run.command("http")
@_folder_option
def run_http(folder: Path) -> None:
    """Serve WebSockets and HTTP."""
    service.run_service(service.http_service(open_installation(folder)))


@main.command()
@_folder_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(folder: Path, as_json: bool) -> None:
    """Say what runs, and where, how much log slots keep, and what is being loaded."""
    found = read_status(folder / "status.json")
    if found is None:
        raise NotRunningError(f"nothing was started in {folder}; `rowcast up --dir {folder}` does")
    status = with_truth(found)
    installation = open_installation(folder, port_base=status.port_base)
    slots = _run(read_slots(installation))
    snapshots = _run(read_snapshots(installation, status))
    text, runs = inspection.status_text(status, slots, snapshots, as_json=as_json)
    click.echo(text)
    sys.exit(0 if runs else 1)


@main.command()
@_folder_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(folder: Path, as_json: bool) -> None:
    """Look for what is wrong or can lose data, and say how to mend it."""
    findings = _run(examine(open_installation(folder)))
    click.echo(inspection.findings_text(findings, as_json=as_json))
    sys.exit(1 if any(finding.severity == "error" for finding in findings) else 0)


@main.command()
@_folder_option
@click.argument("source")
@click.argument("table")
@click.option("--where", default="", help="SQL: only the rows that fulfil it.")
def snapshot(folder: Path, source: str, table: str, where: str) -> None:
    """Load a table's rows into its topic: rowcast snapshot shop public.orders."""
    asked = _run(ask_for_snapshot(open_installation(folder), source, table, where))
    click.echo(f"asked for {asked}; `rowcast status` shows how far it is")


@main.group()
def audit() -> None:
    """Make reads of rows events (docs/read-audit.md)."""


@audit.command("enable")
@_folder_option
@click.argument("source")
@click.argument("table")
@click.option("--rows", is_flag=True, required=True, help="Each row that is read is an event.")
@click.option("--force", is_flag=True, help="Hold the table's owner to it too.")
def audit_enable(folder: Path, source: str, table: str, rows: bool, force: bool) -> None:
    """Install the row policy on a table."""
    del rows
    click.echo(_run(read_audit.enable(open_installation(folder), source, table, force=force)))


@audit.command("disable")
@_folder_option
@click.argument("source")
@click.argument("table")
def audit_disable(folder: Path, source: str, table: str) -> None:
    """Take the row policy away; nothing of it is left."""
    click.echo(_run(read_audit.disable(open_installation(folder), source, table)))


@audit.command("list")
@_folder_option
@click.argument("source")
def audit_list(folder: Path, source: str) -> None:
    """Name the tables whose reads are events."""
    click.echo(_run(read_audit.audited(open_installation(folder), source)))


@main.command()
@_folder_option
@click.option("--source", default="shop", show_default=True, help="Name of the source.")
@click.option("--table", required=True, help="schema.table, or table in public.")
@click.option("--key", help="Of one row: its key's value, or the key as JSON.")
@click.option("--subject", help="By one reader: the token's subject, or the database user.")
@click.option("--since", help="Not longer ago than this, e.g. 90m or 1d.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def reads(
    folder: Path,
    source: str,
    table: str,
    key: str | None,
    subject: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """List who read rows of a table."""
    text = read_audit.reads_text(
        *(open_installation(folder), source, table),
        key=key,
        subject=subject,
        since=since,
        as_json=as_json,
    )
    click.echo(_run(text))


@main.command()
@_folder_option
@click.argument("source")
@click.argument("tables", nargs=-1)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait for loading and capture.",
)
@click.option(
    "--limit",
    "shown",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Differences of a table to list; all are counted.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def verify(
    folder: Path, source: str, tables: tuple[str, ...], timeout_s: float, shown: int, as_json: bool
) -> None:
    """Compare every row of a source's tables with its topic, while writes go on."""
    limits = VerifyLimits(timeout_s=timeout_s, shown=shown)

    def say(step: str) -> None:
        if not as_json:
            click.echo(step, err=True)

    found = _run(verify_command.verify(open_installation(folder), source, tables, limits, say))
    click.echo(verify_command.verification_text(found, as_json=as_json))
    sys.exit(1 if found.difference_count else 0)


@main.command()
@_folder_option
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def apply(folder: Path, paths: tuple[Path, ...]) -> None:
    """Apply listener and module files (.py), trigger files (.toml), or folders of them."""
    installation = open_installation(folder)
    for definition in _run(definition_files.apply_files(installation, paths)):
        what = "module" if isinstance(definition, Module) else f"on {definition.on}"
        click.echo(f"{definition.name} (version {definition.version}) {what}")


@main.command()
@_folder_option
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def get(folder: Path, name: str | None, as_json: bool) -> None:
    """List the definitions and modules, or show one."""
    installation = open_installation(folder)
    click.echo(_run(inspection.definitions_text(installation, name, as_json=as_json)))


@main.command()
@_folder_option
@click.argument("names", nargs=-1, required=True)
def delete(folder: Path, names: tuple[str, ...]) -> None:
    """Delete definitions and modules by name."""
    installation = open_installation(folder)
    for name in names:
        _run(definition_files.delete_definition(installation, name))
        click.echo(f"{name} deleted")


@main.command("test")
@_folder_option
@click.argument("listener")
@click.option(
    "--event",
    "event_file",
    type=click.Path(path_type=Path, allow_dash=False),
    required=True,
    help="File with the event's JSON, as `rowcast tail` prints it.",
)
@click.option("--dry-run", is_flag=True, help="Leave nothing behind in databases and elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def run_test(folder: Path, listener: str, event_file: Path, dry_run: bool, as_json: bool) -> None:
    """Run one listener, a file or one that is applied, against a sample event."""
    text, is_well = _run(
        listener_test.run_test(
            open_installation(folder), listener, event_file, dry_run=dry_run, as_json=as_json
        )
    )
    click.echo(text)
    sys.exit(0 if is_well else 1)


@main.command()
@_folder_option
@click.argument("event_type")
@click.argument("data", default="{}")
@click.option("--key", help="Events of one key stay in order.")
def emit(folder: Path, event_type: str, data: str, key: str | None) -> None:
    """Emit a custom event: rowcast emit custom.hello '{"to": "world"}'."""
    click.echo(_run(emit_event(open_installation(folder), event_type, data, key)))


@main.command()
@_folder_option
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

    _run(write())


@main.command()
@_folder_option
@click.option("--listener", help="Only runs of this listener.")
@click.option("--status", "run_status", help="Only runs that ended so: ok, failed, timeout, ...")
@click.option("-n", "count", type=int, default=20, show_default=True, help="So many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
def runs(
    folder: Path, listener: str | None, run_status: str | None, count: int, as_json: bool
) -> None:
    """Show what listeners' runs did."""
    installation = open_installation(folder)
    text = _run(
        inspection.runs_text(installation, listener, run_status, count=count, as_json=as_json)
    )
    click.echo(text)


@main.command()
@_folder_option
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
def schedules(folder: Path, as_json: bool) -> None:
    """Show what waits to be emitted, once or again and again."""
    click.echo(_run(schedules_text(open_installation(folder), as_json=as_json)))


@main.command()
@_folder_option
@click.option("--listener", help="Only dead letters of this listener.")
@click.option("-n", "count", type=int, default=20, show_default=True, help="So many, newest last.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, a line each.")
def dead(folder: Path, listener: str | None, count: int, as_json: bool) -> None:
    """Show runs given up, with what is needed to replay them."""
    installation = open_installation(folder)
    click.echo(_run(inspection.dead_text(installation, listener, count=count, as_json=as_json)))


@main.command()
@_folder_option
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
    click.echo(token_text(open_installation(folder), role, subject, expires, claims))


@main.group("packages")
def packages_group() -> None:
    """Third-party packages that listeners import."""


@packages_group.command("add")
@_folder_option
@_tenant_option
@click.option(
    "--find-links",
    "links",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with more wheels.",
)
@click.argument("wanted", nargs=-1, required=True, metavar="NAME[==VERSION]|FILE.whl...")
def add_packages(
    folder: Path, tenant: str, links: tuple[Path, ...], wanted: tuple[str, ...]
) -> None:
    """Add packages and what they require, and build the tenant's image."""
    installation = open_installation(folder)
    _run(packages.add_packages(installation, tenant, wanted, links, click.echo))


@packages_group.command("list")
@_folder_option
@click.option("--tenant", help="Only of this tenant.")
def list_packages(folder: Path, tenant: str | None) -> None:
    """Show which packages there are, with versions and hashes."""
    click.echo(packages.packages_text(open_installation(folder), tenant))


@packages_group.command("remove")
@_folder_option
@_tenant_option
@click.argument("names", nargs=-1, required=True)
def remove_packages(folder: Path, tenant: str, names: tuple[str, ...]) -> None:
    """Remove packages and what only they required."""
    _run(packages.remove_packages(open_installation(folder), tenant, names, click.echo))


@packages_group.command("rebuild")
@_folder_option
@click.option("--tenant", "tenants", multiple=True, help="Only of this tenant.")
def rebuild_packages(folder: Path, tenants: tuple[str, ...]) -> None:
    """Build tenants' images again from the locked wheels, checking their hashes."""
    _run(packages.rebuild_images(open_installation(folder), tenants, click.echo))


def _run(work: Coroutine[object, object, _Result]) -> _Result:
    return asyncio.run(work)


def _end(error: BaseException) -> NoReturn:
    click.echo(f"rowcast: {error}", err=True)
    # The newer capture would be fenced in turn by this one, started again.
    sys.exit(NOT_AGAIN_EXIT if isinstance(error, FencedError) else _EXIT_MENDABLE)


def _first_leaf(error: BaseException) -> BaseException:
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast("BaseExceptionGroup[BaseException]", leaf).exceptions[0]
    return leaf
