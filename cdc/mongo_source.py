"""What a user says of a MongoDB to capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cdc.mongo_statement import StatementForm


@dataclass(frozen=True, slots=True)
class MongoSource:
    """A MongoDB to capture.

    `database` None captures every database of the deployment; `on_gap` says whether to stop or
    to go on from now where the oplog no longer holds what follows the progress; progress is
    stored every `heartbeat_s` while nothing happens; `pre_images` switches
    changeStreamPreAndPostImages on for captured collections. Of reads, `statements` says how a
    command stands in its event, `profile_mb` how large the profiler's collection is made, and with
    `mark_secret` the data API's own are known.
    """

    name: str
    uri: str
    database: str | None = None
    on_gap: Literal["stop", "continue"] = "stop"
    heartbeat_s: float = 10.0
    pre_images: bool = True
    statements: StatementForm = "normalized"
    profile_mb: int = 64
    mark_secret: str = field(default="", repr=False)
