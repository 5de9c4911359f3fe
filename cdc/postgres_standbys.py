"""What standbys ask for: that capture goes on after a failover, or reads from one of them.

One look, findings with the statement that mends each; nothing is changed.
"""

from __future__ import annotations

from typing import LiteralString

from cdc.finding import Finding, Severity
from cdc.postgres_slot import FAILOVER_SINCE, slot_state
from cdc.postgres_source import Connection, PostgresSource

_SETTINGS: LiteralString = """
    select current_setting('hot_standby_feedback') = 'on', current_setting('primary_slot_name'),
           current_setting('synchronized_standby_slots', true),
           pg_catalog.pg_is_in_recovery()
"""
_STANDBYS: LiteralString = """
    select slot_name::text from pg_catalog.pg_replication_slots
    where slot_type = 'physical' and active order by 1
"""


async def find_standby_risks(connection: Connection, source: PostgresSource) -> list[Finding]:
    """What would make a failover lose changes, or a standby lose the slot."""
    cursor = await connection.execute(_SETTINGS)
    row = await cursor.fetchone()
    if row is None:
        return []
    feedback, primary_slot, synchronized, recovers = row
    if recovers:
        return _of_standby(source, str(primary_slot or ""), feedback=bool(feedback))
    if connection.info.server_version < FAILOVER_SINCE or not source.failover_slot:
        return []
    found: list[Finding] = []
    slot = await slot_state(connection, source)
    if slot is not None and slot.failover is False:
        found.append(
            _finding(
                "warning",
                f"the slot {source.slot} has failover off, so no standby keeps a copy of it",
                "failover on, so that capture goes on after a failover",
                "start capture again, which switches it on",
            )
        )
    cursor = await connection.execute(_STANDBYS)
    standbys = [str(row[0]) for row in await cursor.fetchall()]
    names = {name.strip() for name in str(synchronized or "").split(",")}
    missing = [name for name in standbys if name not in names]
    if missing:
        wanted = ", ".join([*sorted(names - {""}), *missing])
        found.append(
            _finding(
                "warning",
                f"synchronized_standby_slots without {', '.join(missing)}: capture may tell of "
                "changes that a standby does not have yet, and a failover to it is then a gap",
                "the physical slots of the standbys that may be promoted; on each of them "
                "sync_replication_slots = on, hot_standby_feedback = on, and dbname in "
                "primary_conninfo",
                f"alter system set synchronized_standby_slots = '{wanted}'; "
                "select pg_reload_conf()",
            )
        )
    elif standbys:
        found.append(
            _finding("ok", f"capture waits for the standbys of {', '.join(standbys)}", "", "")
        )
    return found


def _of_standby(source: PostgresSource, primary_slot: str, *, feedback: bool) -> list[Finding]:
    found: list[Finding] = []
    if not source.primary_dsn:
        found.append(
            _finding(
                "warning",
                "a standby without primary_dsn: capture makes no publication and loads no rows",
                "the primary's address, for what has to be written",
                f"set primary_dsn in {source.setting}",
            )
        )
    if not feedback:
        found.append(
            _finding(
                "warning",
                "a standby with hot_standby_feedback off: a vacuum of the primary ends its slot",
                "on",
                "on the standby: alter system set hot_standby_feedback = on; "
                "select pg_reload_conf()",
            )
        )
    if not primary_slot:
        found.append(
            _finding(
                "warning",
                "a standby with no primary_slot_name: what it has told the primary to keep is "
                "forgotten whenever it is not connected",
                "a physical slot on the primary",
                "on the primary: select pg_create_physical_replication_slot('standby'); on the "
                "standby: alter system set primary_slot_name = 'standby'; "
                "select pg_reload_conf()",
            )
        )
    return found


def _finding(severity: Severity, found: str, expected: str, mend: str) -> Finding:
    return Finding(severity, "standby", found, expected, mend)
