"""A read that MongoDB's profiler told of, as a record on the collection's `.reads` topic. Pure."""

from __future__ import annotations

from cdc.mongo_statement import StatementForm, statement_text
from cdc.profile_entry import ProfileEntry
from events.event_type import read_type
from events.json_codec import JsonObject, encode, encode_key
from events.names import encode_segment
from events.topic import reads_topic


def profile_read_record(
    source: str,
    process: str,
    entry: ProfileEntry,
    collection: str,
    form: StatementForm,
    now_ms: int,
) -> tuple[str, bytes, bytes]:
    """Topic, key and value of the event.

    `process` names the mongod's run that the entry was read from, `now_ms` is when. The key is
    the session, so that reads of one stay in order.
    """
    event_id = f"{source}/{process}/{entry.record}/{encode_segment(collection)}"
    body: JsonObject = {
        "id": event_id,
        "type": read_type(source, entry.database, collection),
        "op": "read",
        "key": None,
        "keys": None,
        "read": {"by": "profiler", "exact": "statement"},
        "statement": {
            "command": entry.verb,
            "text": _text(entry, form),
            "parameters": None,
        },
        "rows": entry.rows,
        "who": {
            "user": entry.user,
            "role": None,
            "application": entry.application,
            "client": entry.client,
            "subject": None,
            "pid": None,
        },
        "source": {
            "connector": "mongodb",
            "name": source,
            "db": entry.database,
            "schema": entry.database,
            "table": collection,
            "collection": collection,
            "ts_ms": entry.at_ms,
            "snapshot": "false",
        },
        "transaction": None,
        "ts_ms": now_ms,
    }
    topic = reads_topic(source, entry.database, collection)
    return topic, encode_key({"session": entry.session or event_id}), encode(body)


def _text(entry: ProfileEntry, form: StatementForm) -> str | None:
    try:
        return statement_text(entry, form)
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Whatever a client has sent, that it read is told.
        return None
