"""Changes that MongoDB no longer holds: the event that says so and the error that stops capture."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.errors import CaptureGapError
from cdc.progress import MongoProgress
from events.event import OutgoingEvent, make_event

GAP_EVENT = "system.gap"


@dataclass(frozen=True, slots=True)
class MongoGap:
    """A place in a stream that cannot be resumed from."""

    source: str
    progress: MongoProgress
    reason: str
    code: int | None

    @property
    def event_id(self) -> str:
        """Deterministic: the same gap has the same id at every start."""
        progress = self.progress
        time = f"{progress.seconds:08X}{progress.increment:08X}"
        return f"{self.source}/gap/{time}/{progress.ordinal}"

    def event(self, now_ms: int) -> OutgoingEvent:
        """The event for `rowcast.events`."""
        progress = self.progress
        return make_event(
            event_id=self.event_id,
            event_type=GAP_EVENT,
            data={
                "source": self.source,
                "connector": "mongodb",
                "reason": self.reason,
                "code": self.code,
                "cluster_time": [progress.seconds, progress.increment],
                "ordinal": progress.ordinal,
                "token": progress.token,
                "deployment": progress.deployment,
            },
            ts_ms=now_ms,
            key=self.source,
        )

    def error(self) -> CaptureGapError:
        """The error that names the mend."""
        return CaptureGapError(
            f"changes of the source {self.source!r} after cluster time "
            f"{self.progress.seconds},{self.progress.increment} are lost to capture: "
            f'{self.reason}. To go on from now without them set on_gap = "continue" under '
            f"[sources.{self.source}] in rowcast.toml and start again; to keep more history "
            "raise the oplog (replSetResizeOplog, minRetentionHours)"
        )
