"""Commands on sources: load a table, compare it with its topic, audit its reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, cast

import click

from api.system_operation import NoArguments
from cdc.postgres_verification import VerifyLimits
from events.json_codec import JsonObject
from rowcast import inspection, read_audit, read_report, verify_command
from rowcast.commands.invocation import ask, folder_option, print_lines, reach_options, run_async
from rowcast.installation import open_installation
from rowcast.system import sources as system


@click.command()
@reach_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def sources(folder: Path, as_json: bool) -> None:
    """List the sources: kind, capture, slot, what is being loaded."""
    found = ask(folder, system.LIST_SOURCES, NoArguments())
    click.echo(inspection.sources_text(found, as_json=as_json))


@click.command()
@reach_options
@click.argument("source")
@click.argument("table")
@click.option("--where", default="", help="SQL: only the rows that fulfil it.")
def snapshot(folder: Path, source: str, table: str, where: str) -> None:
    """Load a table's rows into its topic: rowcast snapshot shop public.orders."""
    arguments = system.SnapshotArguments(source, table, where)
    click.echo(ask(folder, system.SNAPSHOT, arguments).message)


@click.command()
@folder_option
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

    found = run_async(verify_command.verify(open_installation(folder), source, tables, limits, say))
    click.echo(verify_command.verification_text(found, as_json=as_json))
    sys.exit(1 if found.difference_count else 0)


@click.group()
def audit() -> None:
    """Make reads of rows events (docs/read-audit.md)."""


@audit.command("enable")
@reach_options
@click.argument("source")
@click.argument("table")
@click.option("--rows", is_flag=True, help="Each row that is read is an event: a row policy.")
@click.option(
    "--statements",
    is_flag=True,
    help="Each statement that reads is one: pgaudit, or MongoDB's profiler.",
)
@click.option("--force", is_flag=True, help="With --rows: hold the table's owner to it too.")
def audit_enable(
    folder: Path, source: str, table: str, rows: bool, statements: bool, force: bool
) -> None:
    """Make reads of a table events."""
    arguments = system.AuditArguments(source, table, rows, statements, force)
    click.echo(ask(folder, system.ENABLE_AUDIT, arguments).message)


@audit.command("disable")
@reach_options
@click.argument("source")
@click.argument("table")
@click.option("--rows", is_flag=True, help="Only the audit by row.")
@click.option("--statements", is_flag=True, help="Only the audit by statement.")
@click.option(
    "--lose-unread",
    is_flag=True,
    help="MongoDB: end it though capture has not told all that was read.",
)
def audit_disable(
    folder: Path, source: str, table: str, rows: bool, statements: bool, lose_unread: bool
) -> None:
    """Make reads of a table events no longer; nothing of the audit is left."""
    arguments = system.NoAuditArguments(source, table, rows, statements, lose_unread)
    click.echo(ask(folder, system.DISABLE_AUDIT, arguments).message)


@audit.command("list")
@reach_options
@click.argument("source")
def audit_list(folder: Path, source: str) -> None:
    """Name the tables whose reads are events."""
    found = ask(folder, system.LIST_AUDITED, system.SourceArguments(source))
    click.echo(read_audit.audited_text(source, found))


@click.command()
@reach_options
@click.option("--source", help="Name of the source; all that have such a table where left out.")
@click.option("--table", required=True, help="schema.table, a table in public, or a collection.")
@click.option("--key", help="Of one row: its key's value, or the key as JSON.")
@click.option("--subject", help="By one reader: the token's subject, or the database user.")
@click.option("--since", help="Not longer ago than this, e.g. 90m or 1d.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def reads(
    folder: Path,
    source: str | None,
    table: str,
    key: str | None,
    subject: str | None,
    since: str | None,
    as_json: bool,
) -> None:
    """List who read rows of a table."""
    arguments = system.ReadsArguments(table, source, key, subject, since)
    found = [cast("JsonObject", one) for one in ask(folder, system.LIST_READS, arguments)]
    print_lines(read_report.reads_text(found, as_json=as_json))


COMMANDS: Final = (sources, snapshot, verify, audit, reads)
