"""Operations on sources: what they are and how they stand, snapshots, and the audit of reads."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from api.system_operation import NoArguments, SystemOperation
from cdc.snapshot_state import TableSnapshot
from rowcast import read_audit, read_report
from rowcast.address import without_password
from rowcast.installation import Installation
from rowcast.read_audit import AuditedTables
from rowcast.slot_status import SlotStatus, read_slots
from rowcast.snapshot_command import ask_for_snapshot, read_snapshots
from rowcast.status import read_status, with_truth

_Source: TypeAlias = Annotated[str, msgspec.Meta(description="name of a source in rowcast.toml")]
_Table: TypeAlias = Annotated[str, msgspec.Meta(description="schema.table, or table in public")]
Body: TypeAlias = dict[str, object]


class SourceArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source."""

    source: _Source


class SnapshotArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table to load, and which of its rows."""

    source: _Source
    table: _Table
    where: Annotated[str, msgspec.Meta(description="SQL: only the rows that fulfil it")] = ""


class AuditArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table whose reads are to be events; `force` holds its owner to the row policy too."""

    source: _Source
    table: _Table
    rows: Annotated[bool, msgspec.Meta(description="each row that is read: a row policy")] = False
    statements: Annotated[bool, msgspec.Meta(description="each statement: pgaudit")] = False
    force: bool = False


class NoAuditArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table whose reads are to be events no longer, in one way or as they are."""

    source: _Source
    table: _Table
    rows: bool = False
    statements: bool = False
    lose_unread: Annotated[
        bool, msgspec.Meta(description="MongoDB: though capture has not told all that was read")
    ] = False


class ReadsArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reads of a table, of all sources that have one of that name; all conditions hold."""

    table: Annotated[
        str, msgspec.Meta(description="schema.table, a table in public, or a collection")
    ]
    source: _Source | None = None
    key: Annotated[str, msgspec.Meta(description="of one row: its value, or as JSON")] | None = None
    subject: Annotated[str, msgspec.Meta(description="by one reader")] | None = None
    since: Annotated[str, msgspec.Meta(description="e.g. 90m or 1d")] | None = None


class SourceState(msgspec.Struct, frozen=True):
    """A source; its address is without the password.

    `slot` is null where the server does not answer and for MongoDB, `service` where it never ran.
    """

    name: str
    kind: str
    address: str
    service: str | None
    slot: SlotStatus | None
    snapshots: list[TableSnapshot]


class Said(msgspec.Struct, frozen=True):
    """What was done, in words."""

    message: str


LIST_SOURCES: Final = SystemOperation(
    "list_sources",
    "GET",
    "/sources",
    "Sources, with slot, snapshots and capture",
    NoArguments,
    list[SourceState],
)
SNAPSHOT: Final = SystemOperation(
    "snapshot",
    "POST",
    "/sources/{source}/snapshots",
    "Ask capture to load a table's rows into its topic",
    SnapshotArguments,
    Said,
    told=("table",),
)
LIST_AUDITED: Final = SystemOperation(
    "list_audited",
    "GET",
    "/sources/{source}/audit",
    "Tables whose reads are events",
    SourceArguments,
    AuditedTables,
)
ENABLE_AUDIT: Final = SystemOperation(
    "enable_audit",
    "PUT",
    "/sources/{source}/audit/{table}",
    "Make reads of a table events",
    AuditArguments,
    Said,
    told=("rows", "statements", "force"),
)
DISABLE_AUDIT: Final = SystemOperation(
    "disable_audit",
    "DELETE",
    "/sources/{source}/audit/{table}",
    "Make them events no longer",
    NoAuditArguments,
    Said,
)
LIST_READS: Final = SystemOperation(
    "list_reads",
    "GET",
    "/reads/{table}",
    "Who read rows of a table, the oldest first",
    ReadsArguments,
    list[Body],
)


async def list_sources(installation: Installation, _arguments: NoArguments) -> list[SourceState]:
    """All sources."""
    slots = await read_slots(installation)
    status = read_status(installation.status_file)
    services = {} if status is None else with_truth(status).services
    snapshots = {} if status is None else await read_snapshots(installation, status)
    found: list[SourceState] = []
    for name, settings in installation.configuration.sources.items():
        service = services.get(f"capture-{name}")
        found.append(
            SourceState(
                name,
                settings.kind,
                without_password(installation.dsn(name)),
                None if service is None else service.state,
                slots.get(name),
                snapshots.get(name, []),
            )
        )
    return found


async def snapshot(installation: Installation, arguments: SnapshotArguments) -> Said:
    """Ask for a snapshot."""
    asked = await ask_for_snapshot(installation, arguments.source, arguments.table, arguments.where)
    return Said(f"asked for {asked}; `rowcast status` shows how far it is")


async def list_audited(installation: Installation, arguments: SourceArguments) -> AuditedTables:
    """The audited tables of a source."""
    return await read_audit.audited(installation, arguments.source)


async def enable_audit(installation: Installation, arguments: AuditArguments) -> Said:
    """Begin to audit a table."""
    said = await read_audit.enable(
        *(installation, arguments.source, arguments.table),
        rows=arguments.rows,
        statements=arguments.statements,
        force=arguments.force,
    )
    return Said(said)


async def disable_audit(installation: Installation, arguments: NoAuditArguments) -> Said:
    """Audit it no longer."""
    said = await read_audit.disable(
        *(installation, arguments.source, arguments.table),
        rows=arguments.rows,
        statements=arguments.statements,
        lose_unread=arguments.lose_unread,
    )
    return Said(said)


async def list_reads(installation: Installation, arguments: ReadsArguments) -> list[Body]:
    """The reads that are asked for."""
    reads = await read_report.find_reads(
        installation,
        arguments.source,
        arguments.table,
        key=arguments.key,
        subject=arguments.subject,
        since=arguments.since,
    )
    return [dict(read) for read in reads]
