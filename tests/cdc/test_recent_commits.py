from __future__ import annotations

import pytest

from cdc.recent_commits import RecentCommits
from events.lsn import Lsn


def fed(*xids: int) -> RecentCommits:
    commits = RecentCommits()
    for at, xid in enumerate(xids, 1):
        commits.add(Lsn(100 * at), xid)
    return commits


@pytest.mark.parametrize(
    ("xids", "seen", "expected"),
    [
        ((), "10:10:", 1_000),
        ((8, 9), "10:10:", 1_000),
        # Flushed, and not yet visible.
        ((8, 9), "9:10:9", 199),
        # Begun after the read.
        ((8, 12, 9), "10:11:", 199),
        # Visible out of the log's order.
        ((9, 8), "9:10:9", 99),
        ((8, 9), "4294967305:4294967306:4294967305", 199),
        # Older than those is taken for one that was seen.
        ((5, *range(100, 164)), "5:400:5", 10_000),
    ],
)
def test_a_read_belongs_before_the_first_commit_that_it_did_not_see(
    xids: tuple[int, ...], seen: str, expected: int
) -> None:
    commits = fed(*xids)
    position = Lsn(1_000 if len(xids) < 64 else 10_000)
    assert commits.position_of(position, seen).value == expected
    assert commits.position_of(position, seen).value == expected


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        fed(1).position_of(Lsn(1), "nonsense")
