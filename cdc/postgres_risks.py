"""What in a server's settings and state can lose changes or fill its disk.

One look (`read_facts`), then a pure judgement: each finding names the statement that mends it.
Nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import LiteralString, cast

from cdc.finding import Finding
from cdc.postgres_source import Connection, PostgresSource
from events.json_codec import JsonObject

_SETTINGS: LiteralString = """
    select name, setting from pg_catalog.pg_settings where name in (
        'fsync', 'full_page_writes', 'idle_replication_slot_timeout', 'max_slot_wal_keep_size',
        'wal_sender_timeout')
"""
# As JSON, since the view's columns differ between server versions 14 and 18.
_SLOTS: LiteralString = """
    select to_jsonb(s) || jsonb_build_object('retained', pg_catalog.pg_wal_lsn_diff(
        case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_receive_lsn()
            else pg_catalog.pg_current_wal_lsn() end, s.restart_lsn)::bigint)
    from pg_catalog.pg_replication_slots s
"""
_PUBLICATION: LiteralString = """
    select to_jsonb(p) from pg_catalog.pg_publication p where pubname = %s
"""
_PARTITIONED: LiteralString = """
    select exists (select from pg_catalog.pg_class where relkind = 'p')
"""
_UNLOGGED: LiteralString = """
    select n.nspname::text, c.relname::text
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and c.relpersistence = 'u'
      and n.nspname not in ('pg_catalog', 'information_schema') order by 1, 2
"""
_OLD_TRANSACTIONS: LiteralString = """
    select pid, extract(epoch from now() - xact_start)::int
    from pg_catalog.pg_stat_activity
    where backend_type = 'client backend' and xact_start < now() - interval '1 hour'
      and (backend_xid is not null or backend_xmin is not null) order by xact_start
"""
_PREPARED: LiteralString = """
    select gid from pg_catalog.pg_prepared_xacts
    where database = current_database() and prepared < now() - interval '1 hour'
"""

_RETAINED_BYTES = 1 << 30
_MEBIBYTE = 1 << 20
_LEAST_SENDER_TIMEOUT_MS = 5_000
_OPERATIONS = {
    "pubinsert": "INSERT",
    "pubupdate": "UPDATE",
    "pubdelete": "DELETE",
    "pubtruncate": "TRUNCATE",
}
_RELOAD = "; select pg_reload_conf()"


@dataclass(frozen=True, slots=True)
class Facts:
    """What one look at a server shows, each as PostgreSQL's own views have it."""

    settings: dict[str, str] = field(default_factory=dict[str, str])
    slots: list[JsonObject] = field(default_factory=list[JsonObject])
    publication: JsonObject | None = None
    has_partitions: bool = False
    unlogged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    old_transactions: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    prepared: list[str] = field(default_factory=list[str])


async def read_facts(connection: Connection, source: PostgresSource) -> Facts:
    """Look at the server; what the role may not see is not there."""

    async def rows(query: LiteralString, *values: object) -> list[tuple[object, ...]]:
        return await (await connection.execute(query, values or None)).fetchall()

    publications = await rows(_PUBLICATION, source.publication)
    ((partitioned,),) = await rows(_PARTITIONED)
    return Facts(
        settings={str(name): str(value) for name, value in await rows(_SETTINGS)},
        slots=[cast("JsonObject", row[0]) for row in await rows(_SLOTS)],
        publication=cast("JsonObject", publications[0][0]) if publications else None,
        has_partitions=bool(partitioned),
        unlogged=[(str(schema), str(table)) for schema, table in await rows(_UNLOGGED)],
        old_transactions=cast("list[tuple[int, int]]", await rows(_OLD_TRANSACTIONS)),
        prepared=[str(row[0]) for row in await rows(_PREPARED)],
    )


def find_risks(facts: Facts, source: PostgresSource) -> list[Finding]:
    """What can lose changes or fill the disk; nothing where all is well."""
    return [
        *_of_settings(facts.settings),
        *_of_own_slot(facts, source),
        *_of_other_slots(facts.slots, source),
        *_of_publication(facts, source),
        *_of_transactions(facts),
        *(
            _warning(
                "table",
                f"{schema}.{table} is unlogged, so its changes are not captured",
                "a logged table, or one that nobody wants events of",
                f'alter table "{schema}"."{table}" set logged',
            )
            for schema, table in facts.unlogged
            if source.wants(schema, table)
        ),
    ]


def _of_settings(settings: dict[str, str]) -> list[Finding]:
    found = [
        _warning(
            name,
            "off: a crash of the machine can lose what was captured already",
            "on",
            f"alter system set {name} = on{_RELOAD}",
        )
        for name in ("fsync", "full_page_writes")
        if settings.get(name) == "off"
    ]
    if settings.get("idle_replication_slot_timeout", "0") != "0":
        found.append(
            _warning(
                "idle_replication_slot_timeout",
                f"{settings['idle_replication_slot_timeout']} s: the server gives the slot up, and "
                "changes with it, once capture has stood still for so long",
                "0, or longer than any outage",
                f"alter system set idle_replication_slot_timeout = 0{_RELOAD}",
            )
        )
    timeout_ms = int(settings.get("wal_sender_timeout", "60000"))
    if timeout_ms < _LEAST_SENDER_TIMEOUT_MS:
        reason = (
            "0: a capture whose machine is lost keeps the slot for ever"
            if timeout_ms == 0
            else f"{timeout_ms} ms: a short pause ends the connection"
        )
        found.append(
            _warning(
                "wal_sender_timeout",
                reason,
                f"{_LEAST_SENDER_TIMEOUT_MS // 1_000} s or more",
                f"alter system set wal_sender_timeout = '60s'{_RELOAD}",
            )
        )
    return found


def _of_own_slot(facts: Facts, source: PostgresSource) -> list[Finding]:
    slot = next((one for one in facts.slots if one.get("slot_name") == source.slot), None)
    limit_mb = int(facts.settings.get("max_slot_wal_keep_size", "-1"))
    if slot is None or limit_mb < 0:
        return []
    if source.wal_budget_mb >= limit_mb > 0:
        return [
            _warning(
                "wal_budget_mb",
                f"{source.wal_budget_mb} MiB, but the server drops what exceeds {limit_mb} MiB",
                "a budget below max_slot_wal_keep_size, so that the warning comes before the loss",
                f"set wal_budget_mb = {limit_mb // 2} in {source.setting}, or leave it out",
            )
        ]
    left = slot.get("safe_wal_size")
    if slot.get("wal_status") == "unreserved" or (isinstance(left, int) and left <= 0):
        urgent, found = True, "the next checkpoint throws away log that was not captured yet"
    elif isinstance(left, int) and left < limit_mb * _MEBIBYTE // 2:
        urgent, found = False, f"{left // _MEBIBYTE} MiB of log are left to it"
    else:
        return []
    return [
        Finding(
            "error" if urgent else "warning",
            "max_slot_wal_keep_size",
            f"{limit_mb} MiB for {source.slot}: {found}",
            "room for what is written while capture stands still",
            "start capture; alter system set max_slot_wal_keep_size = "
            f"'{4 * max(limit_mb, 1024)}MB'{_RELOAD}",
        )
    ]


def _of_other_slots(slots: list[JsonObject], source: PostgresSource) -> list[Finding]:
    found: list[Finding] = []
    for slot in slots:
        name, retained = slot.get("slot_name"), slot.get("retained")
        if name == source.slot or slot.get("active") is True:
            continue
        if isinstance(retained, int) and retained >= _RETAINED_BYTES:
            found.append(
                _warning(
                    "slot",
                    f"{name}, read by nobody, keeps {retained // _MEBIBYTE} MiB of log on the disk",
                    "a slot only where somebody reads it",
                    f"if nobody needs it: select pg_drop_replication_slot('{name}')",
                )
            )
    return found


def _of_publication(facts: Facts, source: PostgresSource) -> list[Finding]:
    publication = facts.publication
    if publication is None:
        return []
    found: list[Finding] = []
    missing = [word for key, word in _OPERATIONS.items() if publication.get(key) is False]
    if missing:
        found.append(
            _warning(
                "publication",
                f"{source.publication} leaves out {', '.join(missing)}",
                "all operations",
                f'alter publication "{source.publication}" '
                "set (publish = 'insert, update, delete, truncate')",
            )
        )
    if facts.has_partitions and publication.get("pubviaroot") is False:
        found.append(
            _warning(
                "publication",
                f"{source.publication} publishes partitions each under its own name",
                "all under their root, so that their topic stays when partitions come and go",
                f'alter publication "{source.publication}" set (publish_via_partition_root = true)',
            )
        )
    return found


def _of_transactions(facts: Facts) -> list[Finding]:
    found = [
        _warning(
            "transaction",
            f"process {pid} has had one open for {age_s // 60} minutes, and the log since is kept",
            "transactions that end",
            f"select pg_terminate_backend({pid})",
        )
        for pid, age_s in facts.old_transactions
    ]
    found += [
        _warning(
            "transaction",
            f"{gid!r} has been prepared for more than an hour, and the log since is kept",
            "prepared transactions that are ended",
            f"commit prepared '{gid}', or rollback prepared '{gid}'",
        )
        for gid in facts.prepared
    ]
    return found


def _warning(subject: str, found: str, expected: str, mend: str) -> Finding:
    return Finding("warning", subject, found, expected, mend)
