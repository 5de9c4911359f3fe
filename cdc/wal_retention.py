"""How much log a slot keeps, its budget, and when that is news.

A slot keeps the server's log until capture has confirmed it: a capture that stands still fills
the server's disk or, where `max_slot_wal_keep_size` bounds it, loses the slot and changes with it.
The budget is where somebody is told, which must be before either. Pure
(https://www.postgresql.org/docs/current/view-pg-replication-slots.html).
"""

from __future__ import annotations

from dataclasses import dataclass

from events.event import OutgoingEvent, make_event
from events.json_codec import encode_key
from events.lsn import Lsn

EVENT_TYPE = "system.wal_budget"
MEBIBYTE = 1 << 20

_DEFAULT_BUDGET_MB = 2_048
_LEAST_BUDGET_MB = 16
# Told again only after it has fallen so far below the budget.
_REARMED_AT = 0.8


@dataclass(frozen=True, slots=True)
class WalRetention:
    """One look at a slot.

    `retained_bytes` of log are kept for it, of which capture has not confirmed `behind_bytes`.
    `wal_status` is reserved, extended, unreserved (the next checkpoint may take log away) or
    lost; `safe_wal_size_bytes` may be written before that, None where the server sets no limit.
    `invalidation` is why the server gave the slot up, None where it has not.
    """

    slot: str
    restart: Lsn
    retained_bytes: int
    behind_bytes: int
    budget_bytes: int
    wal_status: str
    safe_wal_size_bytes: int | None
    invalidation: str | None
    active_pid: int | None

    @property
    def is_over(self) -> bool:
        """Whether somebody must be told."""
        return self.wal_status == "unreserved" or self.retained_bytes >= self.budget_bytes

    @property
    def is_well_under(self) -> bool:
        """Whether the next crossing of the budget is another one."""
        return (
            self.wal_status in ("reserved", "extended")
            and self.retained_bytes < self.budget_bytes * _REARMED_AT
        )

    @property
    def summary(self) -> str:
        """In a line, for people."""
        if self.invalidation is not None:
            return f"{self.slot} was invalidated by the server ({self.invalidation})"
        left = (
            ""
            if self.safe_wal_size_bytes is None
            else f", {self.safe_wal_size_bytes // MEBIBYTE} MiB before the server takes it away"
        )
        reader = f"read by process {self.active_pid}" if self.active_pid else "read by nobody now"
        return (
            f"{self.slot}, {reader}, keeps {self.retained_bytes // MEBIBYTE} MiB of log (budget "
            f"{self.budget_bytes // MEBIBYTE} MiB), {self.wal_status}{left}"
        )

    def mend(self, holder: str | None = None) -> str:
        """What to do; `holder` ends the server's oldest open transaction, which keeps log too."""
        if holder is not None and self.behind_bytes * 2 < self.retained_bytes:
            return f"capture is not behind, but an open transaction holds the slot: {holder}"
        room = (
            ""
            if self.safe_wal_size_bytes is None
            else "; to give it more time: alter system set max_slot_wal_keep_size = "
            f"'{4 * self.budget_bytes // MEBIBYTE}MB'; select pg_reload_conf()"
        )
        held = (
            "" if holder is None else f"; the oldest open transaction keeps log as well: {holder}"
        )
        return (
            "let capture catch up: rowcast status and its log say whether it runs and whether "
            f"Kafka is there{room}{held}; if nobody needs the changes: "
            f"select pg_drop_replication_slot('{self.slot}')"
        )

    def event(self, source: str, mend: str, now_ms: int) -> OutgoingEvent:
        """What tells listeners of a crossing; its id is that of the log which is kept."""
        return make_event(
            event_id=f"{source}/{self.restart.fixed_width}/wal_budget",
            event_type=EVENT_TYPE,
            data={
                "source": source,
                "slot": self.slot,
                "retained_bytes": self.retained_bytes,
                "behind_bytes": self.behind_bytes,
                "budget_bytes": self.budget_bytes,
                "wal_status": self.wal_status,
                "safe_wal_size_bytes": self.safe_wal_size_bytes,
                "restart_lsn": str(self.restart),
                "mend": mend,
            },
            ts_ms=now_ms,
            key=source,
        )


def budget_bytes(wal_budget_mb: int, max_slot_wal_keep_size_mb: int) -> int:
    """The budget: what is set, else half of the server's limit, else 2 GiB.

    `wal_budget_mb` 0 means that none is set, a limit below 0 that the server has none.
    """
    if wal_budget_mb:
        return wal_budget_mb * MEBIBYTE
    if max_slot_wal_keep_size_mb >= 0:
        return max(max_slot_wal_keep_size_mb // 2, _LEAST_BUDGET_MB) * MEBIBYTE
    return _DEFAULT_BUDGET_MB * MEBIBYTE


def wal_budget_key(source: str) -> bytes:
    """Key of the record that says a source's slot is over budget and was told of."""
    return encode_key({"wal_budget": source})
