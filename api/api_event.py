"""The event of a call: who did what, with which outcome. Pure.

A call has one event; where a write's transaction fails although its event is on Kafka already, a
second one with the same `call` says so, and the last one holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import orjson

from api.caller import Caller
from api.key_list import first_keys
from api.shortened_event import fitting
from api.table_read import TableRead, Telling
from events.chain import CHAIN_HEADER, TRACEPARENT_HEADER, Chain
from events.event import Headers, OutgoingEvent
from events.json_codec import JsonObject, JsonValue, encode
from events.names import encode_segment

Verb: TypeAlias = Literal["created", "updated", "deleted", "read", "called"]
Outcome: TypeAlias = Literal["ok", "failed", "refused", "rolled_back"]

KEYS_BYTES_MAX: Final = 256 * 1024
_TEXT_MAX: Final = 2_000


@lru_cache(maxsize=4_096)
def data_type(source: str, table: str, verb: Verb) -> str:
    """`api.data.<source>.<table>.<verb>`; `_` stands for what there is not."""
    return f"api.data.{encode_segment(source or '_')}.{encode_segment(table or '_')}.{verb}"


@dataclass(slots=True)
class ApiCall:
    """What is known of a call so far; `keys` is JSON text, objects joined by commas.

    `reads` are the rows that its answer holds, as far as they are told of here, and `telling` says
    when they are.
    """

    id: str
    type: str
    method: str
    path: str
    begun_ms: int
    caller: Caller | None = None
    operation: str = ""
    source: str = ""
    schema: str = ""
    name: str = ""
    parameters: dict[str, str] = field(default_factory=dict[str, str])
    keys: bytes | None = None
    rows: int | None = None
    reads: tuple[TableRead, ...] = ()
    telling: Telling = "off"
    rolled_back: bool = False
    """Whether it was undone once it was carried out, as its client asked."""
    traceparent: str | None = None
    chain: Chain | None = None
    more: JsonObject = field(default_factory=dict[str, JsonValue])
    """What only calls of its kind have."""

    def event(
        self,
        outcome: Outcome,
        status: int,
        duration_ms: float,
        *,
        error: JsonObject | None = None,
        correction: bool = False,
    ) -> OutgoingEvent:
        """The call's event."""
        keys, complete = b"null", False
        if self.keys is not None:
            found, complete = first_keys(self.keys, KEYS_BYTES_MAX)
            keys = b"[" + found + b"]"
        event_id = f"{self.id}/correction" if correction else self.id
        called: JsonObject = {
            "method": self.method,
            "path": self.path[:_TEXT_MAX],
            "operation": self.operation,
            "source": self.source,
            "schema": self.schema,
            "name": self.name[:_TEXT_MAX],
            "parameters": {name: value[:_TEXT_MAX] for name, value in self.parameters.items()},
        }
        body: JsonObject = {
            "id": event_id,
            "type": self.type,
            "call": self.id,
            "ts_ms": self.begun_ms,
            "caller": self.caller.described() if self.caller else None,
            **called,
            "outcome": "rolled_back" if self.rolled_back and outcome == "ok" else outcome,
            "status": status,
            "duration_ms": round(duration_ms, 3),
            "rows": self.rows,
            "keys_complete": complete,
            "error": error,
            "trace": self.traceparent,
            **self.more,
        }
        # Keys come as JSON from the database and are not read again. Every number here is finite,
        # so that nothing has to be looked for that orjson would turn into null.
        value = orjson.dumps(body)[:-1] + b',"keys":' + keys + b"}"
        made = OutgoingEvent(event_id, self.type, encode({"key": self.id}), value, self.headers())
        return fitting(made)

    def headers(self) -> Headers:
        """Trace and chain of the call."""
        headers: Headers = ()
        if self.traceparent is not None:
            headers = ((TRACEPARENT_HEADER, self.traceparent.encode()),)
        if self.chain is not None:
            headers = (*headers, (CHAIN_HEADER, self.chain.encode()))
        return headers
