"""What an audit by statement needs of a server, and what would make it miss reads.

Each finding says what is missing and the statement that mends it; nothing is changed.
"""

from __future__ import annotations

from typing import LiteralString

from cdc.finding import Finding, Severity
from cdc.postgres_source import Connection, PostgresSource

AUDIT_ROLE = "rowcast_audit"
"""What it is granted, pgaudit logs the reads of."""

_SUBJECT = "reads by statement"
# Each is null where pgaudit is not loaded, or where the role may not see it.
_SETTINGS: LiteralString = """
    select name, setting from pg_catalog.pg_settings
    where name like 'pgaudit.%' or name in ('logging_collector', 'log_destination',
        'log_min_messages', 'log_filename', 'log_truncate_on_rotation')
"""
_FUNCTIONS: LiteralString = """
    select f, pg_catalog.has_function_privilege(f, 'execute')
    from unnest(array['pg_catalog.pg_ls_logdir()', 'pg_catalog.pg_current_logfile(text)',
        'pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)']) f
    union all
    select 'pg_read_all_settings', pg_catalog.pg_has_role('pg_read_all_settings', 'usage')
"""
_OVERRIDES: LiteralString = """
    select coalesce(r.rolname, '')::text, pg_catalog.unnest(s.setconfig)
    from pg_catalog.pg_db_role_setting s
    left join pg_catalog.pg_roles r on r.oid = s.setrole
    left join pg_catalog.pg_database d on d.oid = s.setdatabase
    where d.datname is null or d.datname = pg_catalog.current_database()
"""
# From the least to the most severe, as log_min_messages counts them for the server's log.
_LEVELS = ("debug5", "debug4", "debug3", "debug2", "debug1", "info", "notice", "warning", "error")
_NEVER_LOGGED = ("fatal", "panic")


async def check_statement_audit(connection: Connection, source: PostgresSource) -> list[Finding]:
    """All that stands in the way (errors) or loses reads or their text (warnings)."""
    rights = await _missing_rights(connection)
    cursor = await connection.execute(_SETTINGS)
    settings = {str(name): str(value) for name, value in await cursor.fetchall()}
    findings = rights + _collector(settings)
    if source.primary_dsn:
        findings.append(
            _finding(
                "error",
                f"{source.name} captured from a standby",
                "the primary, where the audit can be set up",
                f"a source of its own whose dsn is the primary, beside {source.setting}",
            )
        )
    if "pgaudit.role" not in settings:
        if not rights:
            findings.append(
                _finding(
                    "error",
                    "pgaudit not loaded",
                    "it in shared_preload_libraries",
                    "install it (Debian: postgresql-15-pgaudit, by the server's version), alter "
                    "system set shared_preload_libraries = 'pgaudit' (beside what is there), and "
                    "restart the server",
                )
            )
        return findings
    return [*findings, *_entries(settings), *await _overrides(connection)]


async def _missing_rights(connection: Connection) -> list[Finding]:
    cursor = await connection.execute(_FUNCTIONS)
    missing = [str(name) for name, may in await cursor.fetchall() if not may]
    if not missing:
        return []
    role = f'"{connection.info.user}"'
    mends = [f"grant pg_monitor to {role}"]
    mends += [
        f"grant execute on function {name} to {role}"
        for name in missing
        if "pg_read_binary_file" in name or "pg_current_logfile" in name
    ]
    return [
        _finding(
            "error",
            f"the role {connection.info.user} without {', '.join(missing)}",
            "a role that may read the server's log and settings",
            f"in this database, as a superuser: {'; '.join(mends)}",
        )
    ]


def _collector(settings: dict[str, str]) -> list[Finding]:
    findings: list[Finding] = []
    if settings.get("logging_collector") == "off":
        findings.append(
            _finding(
                "error",
                "logging_collector = off",
                "a log in files that the server itself writes",
                "alter system set logging_collector = on, and restart the server",
            )
        )
    destinations = settings.get("log_destination", "")
    if "jsonlog" not in destinations and "csvlog" not in destinations:
        findings.append(
            _finding(
                "error",
                f"log_destination = {destinations}",
                "jsonlog (from version 15 on) or csvlog in it",
                f"alter system set log_destination = '{destinations},jsonlog'; "
                "select pg_reload_conf()",
            )
        )
    if settings.get("log_truncate_on_rotation") == "on" and "%S" not in settings.get(
        "log_filename", "%S"
    ):
        findings.append(
            _finding(
                "warning",
                f"log_filename = {settings['log_filename']}, with log_truncate_on_rotation on",
                "a name of its own for each file; one that is written over is reported as a gap",
                "alter system set log_filename = 'postgresql-%Y-%m-%d_%H%M%S.log'; "
                "select pg_reload_conf()",
            )
        )
    return findings


def _entries(settings: dict[str, str]) -> list[Finding]:
    findings: list[Finding] = []

    def reload(name: str, value: str) -> str:
        return f"alter system set {name} = {value}; select pg_reload_conf()"

    least, level = settings.get("log_min_messages", "warning"), settings["pgaudit.log_level"]
    hidden = level in _LEVELS and least in _LEVELS and _LEVELS.index(level) < _LEVELS.index(least)
    if hidden or least in _NEVER_LOGGED:
        findings.append(
            _finding(
                "error",
                f"pgaudit.log_level = {level}, log_min_messages = {least}",
                "entries that reach the server's log",
                reload("pgaudit.log_level", "log")
                if hidden
                else reload("log_min_messages", "warning"),
            )
        )
    if settings.get("pgaudit.log_statement") == "off":
        findings.append(
            _finding(
                "warning",
                "pgaudit.log_statement = off, so events bear no statement",
                "on",
                reload("pgaudit.log_statement", "on"),
            )
        )
    if settings.get("pgaudit.log_statement_once") == "on":
        findings.append(
            _finding(
                "warning",
                "pgaudit.log_statement_once = on, so of several reads by one statement only the "
                "first bears it",
                "off",
                reload("pgaudit.log_statement_once", "off"),
            )
        )
    if settings.get("pgaudit.log_rows") == "on":
        findings.append(
            _finding(
                "warning",
                "pgaudit.log_rows = on, with which pgaudit does not log reads by COPY of a whole "
                "table, by a cursor that outlives its transaction, and by statements that fail",
                "off, unless numbers of rows matter more",
                reload("pgaudit.log_rows", "off"),
            )
        )
    return findings


async def _overrides(connection: Connection) -> list[Finding]:
    cursor = await connection.execute(_OVERRIDES)
    found: list[Finding] = []
    for role, setting in await cursor.fetchall():
        name, _, value = str(setting).partition("=")
        if name != "pgaudit.role" or value == AUDIT_ROLE:
            continue
        whose = f"the role {role}" if role else "the database"
        found.append(
            _finding(
                "warning",
                f"pgaudit.role = '{value}' set for {whose}, whose reads are seen only where "
                f"that role is a member of {AUDIT_ROLE}",
                "one role for all",
                f"alter role {role} reset pgaudit.role"
                if role
                else f"grant {AUDIT_ROLE} to {value}",
            )
        )
    return found


def _finding(severity: Severity, found: str, expected: str, mend: str) -> Finding:
    return Finding(severity, _SUBJECT, found, expected, mend)
