"""What a user says of a MongoDB to capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cdc.mongo_statement import StatementForm
from events.event_schema import EventSchemas


@dataclass(frozen=True, slots=True)
class MongoSource:
    """A MongoDB to capture.

    `database` None captures every database of the deployment; `on_gap` says whether to stop or
    to go on from now where the oplog no longer holds what follows the progress; progress is
    stored every `heartbeat_s` while nothing happens; `pre_images` switches
    changeStreamPreAndPostImages on for captured collections. Of reads, `statements` says how a
    command stands in its event, `profile_mb` how large the profiler's collection is made, and with
    `mark_secret` the data API's own are known. `schemas` are those of custom events, which
    documents in the outbox keep; `outbox` says whether these are deleted once Kafka has them.
    """

    name: str
    uri: str
    database: str | None = None
    on_gap: Literal["stop", "continue"] = "stop"
    heartbeat_s: float = 10.0
    pre_images: bool = True
    statements: StatementForm = "normalized"
    profile_mb: int = 64
    outbox: Literal["delete", "keep"] = "delete"
    mark_secret: str = field(default="", repr=False)
    schemas: EventSchemas = field(default_factory=EventSchemas, compare=False, repr=False)
