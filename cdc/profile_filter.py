"""Which operations the profiler writes down: the reads of audited collections, and what it did.

At level 1 a filter decides (at level 2 MongoDB asks none). A pipeline may read an audited
collection from any other, and a filter cannot look into nested pipelines, so all that join are
written down, and capture looks. Pure.
https://www.mongodb.com/docs/v6.0/reference/command/profile/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

Document = Mapping[str, object]

_JOINING: Final = ("$lookup", "$graphLookup", "$unionWith", "$facet")
_PIPELINES: Final = ("command.pipeline", "originatingCommand.pipeline")
_OPERATIONS: Final = ("query", "getmore", "command")
# With $out, or the out of a mapReduce, MongoDB has them as inserts.
_WRITTEN_OUT: Final[Document] = {
    "op": "insert",
    "$or": [{f"command.{name}": {"$exists": True}} for name in ("aggregate", "mapReduce")],
}


@dataclass(frozen=True, slots=True)
class Profiling:
    """How a database of one mongod is profiled."""

    level: int
    slow_ms: int
    filter: Document | None

    def with_reads(self, database: str, collections: Collection[str]) -> Profiling:
        """The same, with the reads of collections too; views must be among them."""
        if self.level == 2:
            return self
        before: Document = self.filter or {"millis": {"$gte": self.slow_ms}}
        return Profiling(1, self.slow_ms, {"$or": [_reads(database, collections), before]})


def _reads(database: str, collections: Collection[str]) -> Document:
    names = [f"{database}.{name}" for name in sorted(collections)]
    # What has no pipeline is passed over cheaply.
    joining = [
        {"$and": [{path: {"$exists": True}}, {"$expr": _joins(f"${path}")}]} for path in _PIPELINES
    ]
    read: Document = {"$or": [{"op": {"$in": [*_OPERATIONS]}}, _WRITTEN_OUT]}
    return {"$and": [read, {"$or": [{"ns": {"$in": names}}, *joining]}]}


def _joins(pipeline: str) -> Document:
    def has(stage: str) -> Document:
        field = {"$getField": {"field": {"$literal": stage}, "input": "$$this"}}
        return {"$ne": [{"$type": field}, "missing"]}

    none = list[object]()
    stages: Document = {"$cond": [{"$isArray": [pipeline]}, pipeline, none]}
    joining = {"$or": [has(stage) for stage in _JOINING]}
    return {"$anyElementTrue": [{"$map": {"input": stages, "in": joining}}]}
