"""Which collections of a source are audited: a collection of our own in it says so.

Profilers keep their setting in memory and on one server, so what is wanted must stand elsewhere,
and so must how each was set before. `rowcast_audit` is dropped with the last audited collection.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from bson import json_util
from pymongo import ReadPreference
from pymongo.write_concern import WriteConcern

from cdc.mongo_deployment import MongoClient
from cdc.mongo_namespace import AUDIT_COLLECTION
from cdc.profile_filter import Document, Profiling

_OWN_DATABASE: Final = "rowcast"
_AUDIT: Final = "audit"


@dataclass(frozen=True, slots=True)
class Before:
    """How a profiler was set before, and whether its collection was made for the audit."""

    profiling: Profiling
    made: bool


@dataclass(frozen=True, slots=True)
class MongoAudit:
    """The audited collections, `database.name`, each with when it began (ms since 1970).

    `version` grows whenever one comes or goes; `before` is by member and database.
    """

    id: str
    version: int = 0
    since_ms: Mapping[str, int] = field(default_factory=dict[str, int])
    before: Mapping[tuple[str, str], Before] = field(default_factory=dict[tuple[str, str], Before])

    def names(self, database: str) -> frozenset[str]:
        """The audited collections of a database."""
        split = (name.partition(".") for name in self.since_ms)
        return frozenset(name for found, _, name in split if found == database)

    @property
    def databases(self) -> frozenset[str]:
        """The databases that have some."""
        return frozenset(name.partition(".")[0] for name in self.since_ms)


class AuditStore:
    """What is wanted, in the source itself; every call raises what pymongo raises."""

    def __init__(self, client: MongoClient, database: str | None) -> None:
        self._collection = client[database or _OWN_DATABASE].get_collection(
            AUDIT_COLLECTION,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern("majority"),
        )

    async def find(self) -> MongoAudit | None:
        """None where nothing is audited, and nothing of an audit is left."""
        identity, version = "", 0
        since: dict[str, int] = {}
        before: dict[tuple[str, str], Before] = {}
        async for document in self._collection.find():
            key = document["_id"]
            if key == _AUDIT:
                identity, version = str(document["audit"]), int(document["version"])
            elif "collection" in key:
                since[str(key["collection"])] = int(document["since_ms"])
            else:
                place = (str(key["member"]), str(key["database"]))
                before[place] = Before(_profiling(document), bool(document["made"]))
        return MongoAudit(identity, version, since, before) if identity else None

    async def add(self, collection: str) -> None:
        """Ask for a collection's reads, from now on."""
        await self._collection.update_one(
            {"_id": {"collection": collection}},
            {"$setOnInsert": {"since_ms": time.time_ns() // 1_000_000}},
            upsert=True,
        )
        await self._changed()

    async def ask_anew(self) -> MongoAudit:
        """What is asked now, under a version that capture can only tell once it has seen it."""
        await self._changed()
        return await self.find() or MongoAudit("")

    async def remove(self, collection: str) -> MongoAudit:
        """Ask for them no more; what is asked now."""
        await self._collection.delete_one({"_id": {"collection": collection}})
        await self._changed()
        return await self.find() or MongoAudit("")

    async def _changed(self) -> None:
        await self._collection.update_one(
            {"_id": _AUDIT},
            {"$setOnInsert": {"audit": secrets.token_hex(8)}, "$inc": {"version": 1}},
            upsert=True,
        )

    async def note(self, member: str, database: str, before: Before) -> None:
        """How a profiler was set; what is noted already stays."""
        noted = {
            "level": before.profiling.level,
            "slow_ms": before.profiling.slow_ms,
            "filter": None
            if before.profiling.filter is None
            else json_util.dumps(before.profiling.filter),
            "made": before.made,
        }
        await self._collection.update_one(
            {"_id": {"member": member, "database": database}}, {"$setOnInsert": noted}, upsert=True
        )

    async def forget(self, member: str, database: str) -> None:
        """Nothing of a profiler is ours any more."""
        await self._collection.delete_one({"_id": {"member": member, "database": database}})

    async def drop(self) -> None:
        """All of it away."""
        await self._collection.drop()


def _profiling(document: Mapping[str, object]) -> Profiling:
    text = document["filter"]
    found = json_util.loads(text) if isinstance(text, str) else None
    return Profiling(
        cast("int", document["level"]),
        cast("int", document["slow_ms"]),
        cast("Document | None", found),
    )
