"""Which tables are to be loaded, decided at a start of capture and when tables are added. Pure.

A table is loaded the first time that it is seen in the publication, and again after a gap where
the source says so. One that was published as it was made needs no loading: the stream has it from
its first row on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cdc.snapshot_chunk import Note
from cdc.snapshot_state import Plan, Reason, SnapshotKey, SnapshotStates, TableSnapshot

TableName = tuple[str, str]


class SnapshotQueue:
    """What is to be loaded of a source; `topic` is where its records stand."""

    def __init__(self, topic: str, states: SnapshotStates) -> None:
        self._topic = topic
        self._states = states
        self._source = states.source
        self._tried: set[TableName] = set()

    def plan(
        self,
        published: Collection[TableName],
        snapshot: str,
        since: int,
        *,
        enabled: bool,
        whole: Collection[TableName] = (),
        just_added: Collection[TableName] = (),
    ) -> tuple[list[TableSnapshot], list[Note]]:
        """Tables that are new to us, and the records to write for what changes.

        `snapshot` is the id for them, `since` a transaction that began after they were seen.
        `enabled` is whether the source asks for loading; a gap that asks for it is in the states.
        Of `whole` tables the stream has each row; `just_added` are loaded whatever is asked for.
        """
        plan, tables = self._states.plan, self._states.tables
        notes = [self._note(name, None) for name in tables if name not in published]
        for note_of in [name for name in tables if name not in published]:
            del tables[note_of]
        if plan is not None and not plan.planned:
            reason: Reason = plan.reason
            new = list(published)
        elif not enabled:
            new = [name for name in just_added if name in published and name not in whole]
            return [TableSnapshot(*name, snapshot, "added", since=since) for name in new], notes
        elif plan is None:
            reason, new = "initial", [name for name in published if name not in tables]
        else:
            reason = "added"
            # A name that is known may be that of another table, made in the place of a dropped one.
            unknown = {*published} - {*tables} | {*published} & {*just_added}
            new = [name for name in published if name in unknown and name not in whole]
        if plan is None or not plan.planned:
            self._states.plan = Plan(planned=True, reason=reason)
            notes.append(plan_note(self._topic, self._source, self._states.plan))
        added = [TableSnapshot(*name, snapshot, reason, since=since) for name in new]
        return added, notes

    def enter(self, snapshots: Iterable[TableSnapshot]) -> list[Note]:
        """Take in states, new or moved on; returns their records."""
        notes: list[Note] = []
        for snapshot in snapshots:
            name = snapshot.schema, snapshot.table
            self._states.tables[name] = snapshot
            notes.append(self._note(name, snapshot))
        return notes

    def note(self, snapshot: TableSnapshot) -> Note:
        """The record of a state that is not taken in yet."""
        return self._note((snapshot.schema, snapshot.table), snapshot)

    def unfinished_beside(self, published: Collection[TableName]) -> list[TableSnapshot]:
        """What is under way of tables that are not published any more."""
        return [
            state
            for name, state in self._states.tables.items()
            if name not in published and state.state in ("waiting", "running")
        ]

    @property
    def is_asked(self) -> bool:
        """Whether there is a request."""
        return bool(self._states.requests)

    @property
    def has_work(self) -> bool:
        """Whether something is under way or to be begun without being asked for."""
        return any(state.state in ("waiting", "running") for state in self._states.tables.values())

    def next(self) -> TableSnapshot | None:
        """What to load now; one that failed is tried once in each run of capture."""
        for name, snapshot in sorted(self._states.tables.items()):
            if snapshot.state in ("waiting", "running"):
                return snapshot
            again = snapshot.state == "failed" and snapshot.reason != "request"
            if again and name not in self._tried:
                self._tried.add(name)
                return snapshot
        return None

    def take_request(self, since: int) -> tuple[TableSnapshot, list[Note]] | None:
        """The oldest request as a snapshot to load, with the records that take it up.

        `since` is a transaction that began after it was seen.
        """
        for request_id, request in self._states.requests.items():
            del self._states.requests[request_id]
            snapshot = TableSnapshot(
                request.schema,
                request.table,
                request_id,
                "request",
                where=request.where,
                since=since,
            )
            key = SnapshotKey(self._source, request=request_id).encode()
            return snapshot, [Note(self._topic, key, None), *self.enter([snapshot])]
        return None

    def tried(self, snapshot: TableSnapshot) -> None:
        """Not to be tried again in this run."""
        self._tried.add((snapshot.schema, snapshot.table))

    def _note(self, name: TableName, snapshot: TableSnapshot | None) -> Note:
        key = SnapshotKey(self._source, name).encode()
        return Note(self._topic, key, snapshot.encode() if snapshot is not None else None)


def plan_note(topic: str, source: str, plan: Plan) -> Note:
    """The record of a plan; one that is not planned yet asks the next start to."""
    return Note(topic, SnapshotKey(source).encode(), plan.encode())
