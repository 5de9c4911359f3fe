"""The timelines of a PostgreSQL server: which history its log has. Pure.

A promotion or a restore begins a new timeline at a position; what stands before it is the same on
both. So progress on an older timeline is good on the new one up to there and no further.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cdc.progress import PostgresProgress
from events.lsn import Lsn


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What IDENTIFY_SYSTEM tells: whose log this is.

    `left_at` is where the server's history left each older timeline, as TIMELINE_HISTORY tells.
    """

    system_id: str
    timeline: int
    database: str
    left_at: dict[int, Lsn] | None = None


def parse_history(content: str) -> dict[int, Lsn]:
    """Where each older timeline was left, from a timeline's history file.

    Raises ValueError for a line that is none
    (https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES).
    """
    left_at: dict[int, Lsn] = {}
    for line in content.splitlines():
        text = line.partition("#")[0].strip()
        if text:
            timeline, position, *_ = text.split(None, 2)
            left_at[int(timeline)] = Lsn.parse(position)
    return left_at


def carried_over(progress: PostgresProgress, identity: ServerIdentity) -> PostgresProgress | None:
    """The progress on the server's timeline; None where something was told that is not in it."""
    if identity.timeline == progress.timeline:
        return progress
    left_at = (identity.left_at or {}).get(progress.timeline)
    if left_at is None:
        return None
    # The last that was told is a commit that begins at `commit`; nothing was where it is the end.
    is_told = progress.commit < progress.end or progress.ordinal is not None
    if progress.commit >= left_at and (is_told or progress.commit > left_at):
        return None
    # Behind the last commit there was nothing of ours; the new timeline may have something there.
    return replace(progress, timeline=identity.timeline, end=min(progress.end, left_at))
