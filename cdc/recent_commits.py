"""Which of the last commits a read did not see yet, though they stand before it in the log.

A commit is in the log before it is visible: while it is flushed, readers still get the row as it
was. A read tells its snapshot, so it can be placed before the first commit that it did not see;
then the last write before a read is the one whose value it saw. Pure.
"""

from __future__ import annotations

from collections import deque

from cdc.snapshot_window import VisibleTransactions
from events.lsn import Lsn

_KEPT = 10_000
# Commits become visible nearly in the log's order: behind so many that were seen is no other.
_SEEN_IN_A_ROW = 64
_SNAPSHOTS_KEPT = 64


class RecentCommits:
    """Fed in the order of the log with the transactions and the reads that stand in it."""

    def __init__(self) -> None:
        self._commits: deque[tuple[Lsn, int]] = deque(maxlen=_KEPT)
        self._found: dict[str, Lsn] = {}

    def add(self, commit: Lsn, xid: int) -> None:
        """A transaction, by where its commit record begins."""
        self._commits.append((commit, xid))

    def position_of(self, position: Lsn, seen: str) -> Lsn:
        """Where a read belongs whose record holds `position` and whose snapshot was `seen`.

        Raises ValueError where that is no snapshot.
        """
        known = self._found.get(seen)
        if known is not None:
            # Rows of one query share it; what comes later cannot be before what was found.
            return known
        snapshot = VisibleTransactions.parse(seen)
        first: Lsn | None = None
        seen_in_a_row = 0
        for commit, xid in reversed(self._commits):
            if snapshot.sees(xid):
                seen_in_a_row += 1
                if seen_in_a_row == _SEEN_IN_A_ROW:
                    break
            else:
                first, seen_in_a_row = commit, 0
        if first is None:
            return position
        before = Lsn(first.value - 1)
        self._found[seen] = before
        if len(self._found) > _SNAPSHOTS_KEPT:
            del self._found[next(iter(self._found))]
        return before
