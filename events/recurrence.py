"""When something that recurs is due: every so often, or by a cron expression in a time zone.

Pure. A cron expression has five fields, minute to weekday, or six with seconds first; where clocks
are put forward a time that does not exist is taken right after, where they are put back a fixed
time is taken once, as Debian's cron does (cronsim).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from events.errors import RecurrenceError

CatchUp = Literal["last", "all", "none"]

SHORTEST_MS: Final = 1_000
LONGEST_MS: Final = 366 * 86_400_000
GRACE_MS: Final = 60_000
"""What is later than this counts as missed."""

_MAX_CRON_CHARS: Final = 200
_SPAN: Final = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_SPAN_PART: Final = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Firing(NamedTuple):
    """`fire_ms` is the due time that is carried out now, None for none; `next_ms` what follows."""

    fire_ms: int | None
    next_ms: int | None


class Recurrence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of `every_ms` and `cron`; `catch_up` says what becomes of due times that were missed.

    `last`: the latest is carried out, once; `all`: each is; `none`: what is more than a minute
    late is not.
    """

    every_ms: int | None = None
    cron: str | None = None
    time_zone: str = "UTC"
    catch_up: CatchUp = "last"

    def check(self) -> Recurrence:
        """The recurrence itself; raises RecurrenceError with what was found and expected."""
        if (self.every_ms is None) == (self.cron is None):
            raise RecurrenceError("expected either a period or a cron expression")
        if self.every_ms is not None:
            if not SHORTEST_MS <= self.every_ms <= LONGEST_MS:
                raise RecurrenceError(
                    f"found a period of {self.every_ms:,} ms, expected a second to 366 days"
                )
            return self
        cron = self.cron or ""
        self._zone()
        if len(cron) > _MAX_CRON_CHARS:
            raise RecurrenceError(
                f"found a cron expression of {len(cron):,} characters, expected {_MAX_CRON_CHARS} "
                "at most"
            )
        try:
            next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            raise RecurrenceError(
                f"found the cron expression {cron[:100]!r} ({str(error) or 'never due'}), expected "
                'five fields, minute, hour, day, month and weekday, such as "30 9 * * 1-5"'
            ) from error
        return self

    def next_ms(self, after_ms: int) -> int | None:
        """The first due time after another, or after when a period begins; None for never."""
        if self.every_ms is not None:
            return after_ms + self.every_ms
        return next((due for due in self._due(after_ms) if due > after_ms), None)

    def step(self, due_ms: int, now_ms: int) -> Firing:
        """What is to be carried out of a due time that has come, and when the next one is."""
        if self.catch_up == "none" and now_ms - due_ms > GRACE_MS:
            return Firing(None, self.next_ms(self._latest_ms(due_ms, now_ms)))
        fire_ms = self._latest_ms(due_ms, now_ms) if self.catch_up == "last" else due_ms
        return Firing(fire_ms, self.next_ms(fire_ms))

    def __str__(self) -> str:
        """As a person reads it."""
        if self.every_ms is not None:
            return f"every {timedelta(milliseconds=self.every_ms)}"
        return f"{self.cron} ({self.time_zone})"

    def _latest_ms(self, due_ms: int, now_ms: int) -> int:
        """The last due time that has come; `due_ms` is one."""
        if self.every_ms is not None:
            return due_ms + (now_ms - due_ms) // self.every_ms * self.every_ms
        before = (due for due in self._due(now_ms + 1_000, reverse=True) if due <= now_ms)
        return max(due_ms, next(before, due_ms))

    def _due(self, from_ms: int, *, reverse: bool = False) -> Iterator[int]:
        start = datetime.fromtimestamp(from_ms // 1_000, self._zone())
        for due in CronSim(self.cron or "", start, reverse=reverse):
            yield int(due.timestamp()) * 1_000

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise RecurrenceError(
                f"found the time zone {self.time_zone[:50]!r}, expected a name such as "
                "Europe/Berlin or UTC"
            ) from error


def parse_period_ms(text: str) -> int:
    """Milliseconds of a text such as "5m" and "1h30m"; raises RecurrenceError for another."""
    if not _SPAN.fullmatch(text):
        raise RecurrenceError(
            f'found the period {text[:50]!r}, expected text such as "5m" and "1h30m" '
            "(ms, s, m, h, d)"
        )
    return sum(int(count) * _UNITS_MS[unit] for count, unit in _SPAN_PART.findall(text))
