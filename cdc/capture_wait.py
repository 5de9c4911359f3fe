"""Waiting until capture has loaded tables, and has passed a position of the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from cdc.errors import CaptureConfigError
from cdc.progress import PostgresProgress, decode_progress, progress_key
from cdc.snapshot_state import SnapshotStates
from cdc.topic_reading import read_to_end
from events.cluster import Cluster
from events.lsn import Lsn

_POLL_S = 0.25


class CaptureWait:
    """Waits for one source, `timeout_s` in all; `say` is told what for."""

    def __init__(
        self, source: str, cluster: Cluster, timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._say = say

    async def until_loaded(self, tables: Sequence[tuple[str, str]]) -> SnapshotStates:
        """The source's snapshots once none of the tables is being loaded.

        Raises CaptureConfigError where that takes too long.
        """
        said = False
        while True:
            states = SnapshotStates(self._source)
            for record in await read_to_end(self._cluster, self._cluster.topics.snapshots, 1):
                states.take(record.key or b"", record.value)
            loading = [
                ".".join(name)
                for name in tables
                if (state := states.tables.get(name)) is not None
                and state.state in ("waiting", "running")
            ]
            if not loading:
                return states
            names = ", ".join(loading)
            if time.monotonic() > self._deadline_s:
                raise CaptureConfigError(
                    found=f"{names} still being loaded after {self._timeout_s:g} s",
                    expected="tables that are loaded",
                    mend="wait (`rowcast status` shows how far it is), or give a longer --timeout",
                )
            if not said:
                said = True
                self._say(f"waiting until {names} is loaded")
            await asyncio.sleep(_POLL_S)

    async def until_passed(self, position: Lsn) -> PostgresProgress:
        """The progress once all before a position is committed on Kafka; raises likewise."""
        self._say(f"waiting until capture has passed {position}")
        while True:
            progress = await self._progress()
            if progress is not None and progress.end >= position:
                return progress
            if time.monotonic() > self._deadline_s:
                at = f"at {progress.end}" if progress is not None else "without any progress"
                raise CaptureConfigError(
                    found=f"capture of {self._source} {at} after {self._timeout_s:g} s",
                    expected=f"it to pass {position}, where the tables were read",
                    mend="look with `rowcast status` whether it runs, or give a longer --timeout",
                )
            await asyncio.sleep(_POLL_S)

    async def _progress(self) -> PostgresProgress | None:
        key = progress_key(self._source)
        records = await read_to_end(self._cluster, self._cluster.topics.progress, 1)
        values = [record.value for record in records if record.key == key]
        progress = decode_progress(values[-1]) if values and values[-1] is not None else None
        return progress if isinstance(progress, PostgresProgress) else None
