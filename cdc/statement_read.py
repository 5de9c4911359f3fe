"""A read that a log told of, as a record on the table's `.reads` topic.

What stands in it of the statement is a setting: literals and parameters are values of rows often
enough. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cdc.audit_entry import AuditEntry
from cdc.log_record import LogRecord
from cdc.normalized_statement import normalized
from events.event_type import read_type
from events.json_codec import JsonObject, encode, encode_key
from events.names import encode_segment
from events.topic import reads_topic

StatementForm: TypeAlias = Literal["normalized", "full", "none"]

TEXT_MAX = 256 * 1024
"""Characters of a statement in full, the rest of which is cut off."""

_LOCAL = "[local]"


@dataclass(frozen=True, slots=True)
class StatementDetail:
    """How much of a statement stands in the event: its text, and the values it was given."""

    statements: StatementForm = "normalized"
    parameters: bool = False

    def text(self, statement: str | None) -> str | None:
        """The text to tell."""
        if statement is None or self.statements == "none":
            return None
        return statement[:TEXT_MAX] if self.statements == "full" else normalized(statement)


def statement_read_id(source: str, record: LogRecord, entry: AuditEntry) -> str:
    """Deterministic: session, statement and relation, once however often a statement names it."""
    relation = f"{encode_segment(entry.schema)}.{encode_segment(entry.relation)}"
    return f"{source}/{record.session_id}/{entry.number}.{entry.part}/{relation}"


def statement_record(
    source: str,
    record: LogRecord,
    entry: AuditEntry,
    detail: StatementDetail,
    at_ms: int,
    now_ms: int,
) -> tuple[str, bytes, bytes]:
    """Topic, key and value of the event.

    `at_ms` is when the server wrote the entry, `now_ms` when it was read. The key is the session,
    so that reads of one stay in order.
    """
    parameters = list(entry.parameters) if detail.parameters and entry.parameters else None
    body: JsonObject = {
        "id": statement_read_id(source, record, entry),
        "type": read_type(source, entry.schema, entry.relation),
        "op": "read",
        "key": None,
        "keys": None,
        "read": {"by": "pgaudit", "exact": "statement"},
        "rows": entry.rows,
        "statement": {
            "command": entry.command,
            "text": detail.text(entry.statement),
            "parameters": [*parameters] if parameters is not None else None,
        },
        "who": {
            "user": record.user,
            "role": None,
            "application": record.application_name,
            "client": None if record.remote_host == _LOCAL else record.remote_host,
            "subject": None,
            "pid": record.pid,
        },
        "source": {
            "connector": "postgresql",
            "name": source,
            "db": record.dbname,
            "schema": entry.schema,
            "table": entry.relation,
            "lsn": None,
            "txId": None,
            "ts_ms": at_ms,
            "snapshot": "false",
        },
        "transaction": None,
        "ts_ms": now_ms,
    }
    topic = reads_topic(source, entry.schema, entry.relation)
    return topic, encode_key({"session": record.session_id}), encode(body)
