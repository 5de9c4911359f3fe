"""What each table looks like, and an event on `rowcast.schema` whenever that is another look.

The log announces a table's columns before the first row that has them, again after each
reconnection. Whether they are new is judged against the last event on the topic, which is
compacted and written in the transaction of the rows that follow: so a change is told once. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from events.event import OutgoingEvent, make_event
from events.event_id import postgres_change_id
from events.json_codec import JsonObject, decode_object
from events.lsn import Lsn
from events.topic import change_topic

EVENT_TYPE = "system.schema_changed"

Looks = dict[int, JsonObject]
"""The look of each table by its oid: schema, table, replica_identity, columns."""


class SchemaLog:
    """The looks that are told, of one source."""

    def __init__(self, topic: str, source: str, told: Looks) -> None:
        self.topic = topic
        self._source = source
        self._told = told

    def tell(
        self, oid: int, look: JsonObject, commit: Lsn, ordinal: int, timestamp_ms: int
    ) -> OutgoingEvent | None:
        """The event that must stand before the ordinal-th change, None where nothing is new."""
        before = self._told.get(oid)
        if before == look:
            return None
        self._told[oid] = look
        return make_event(
            event_id=f"{postgres_change_id(self._source, commit, ordinal)}/schema",
            event_type=EVENT_TYPE,
            data={"source": self._source, "oid": oid, "before": before, "after": look},
            ts_ms=timestamp_ms,
            key=f"{self._source}.{look['schema']}.{look['table']}",
        )


def told_looks(source: str, values: list[bytes]) -> Looks:
    """What the topic's records, oldest first, tell of a source."""
    looks: Looks = {}
    places: dict[int, tuple[str, int]] = {}
    for value in values:
        try:
            body = decode_object(value)
            place = _place(str(body.get("id")))
        except ValueError:
            continue
        data = body.get("data")
        if not isinstance(data, dict) or data.get("source") != source:
            continue
        oid, after = data.get("oid"), data.get("after")
        if not isinstance(oid, int) or not isinstance(after, dict):
            continue
        # A renamed table has records under both names, and so in two partitions.
        if place >= places.get(oid, place):
            looks[oid], places[oid] = after, place
    return looks


@dataclass(frozen=True, slots=True)
class Look:
    """How a table looked from a change on, given as (commit, ordinal)."""

    position: tuple[int, int]
    look: JsonObject

    def topic(self, source: str) -> str:
        """The topic of the table under the name it had then."""
        return change_topic(source, str(self.look.get("schema")), str(self.look.get("table")))


def told_history(source: str, values: list[bytes]) -> dict[int, list[Look]]:
    """All looks that the topic's records tell of a source's tables, oldest first, by oid.

    Compaction takes old ones away; what came before the oldest record stands first.
    """
    history: dict[int, list[Look]] = {}
    first: dict[int, Look] = {}
    for value in values:
        try:
            body = decode_object(value)
            commit, ordinal = _place(str(body.get("id")))
        except ValueError:
            continue
        match body.get("data"):
            case {"source": name, "oid": int(oid), "before": before, "after": dict(after)} if (
                name == source
            ):
                position = int(commit, 16), ordinal
                history.setdefault(oid, []).append(Look(position, after))
                if isinstance(before, dict) and (
                    oid not in first or position < first[oid].position
                ):
                    first[oid] = Look(position, before)
            case _:
                continue
    for oid, looks in history.items():
        looks.sort(key=lambda look: look.position)
        if oid in first and first[oid].position == looks[0].position:
            looks.insert(0, Look((0, 0), first[oid].look))
    return history


def _place(event_id: str) -> tuple[str, int]:
    """The commit, of fixed width, and the ordinal in an event's id."""
    _, commit, ordinal, _ = event_id.split("/")
    return commit, int(ordinal)
