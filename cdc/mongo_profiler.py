"""One database's profiler on one mongod: how it is set, its collection, and its entries.

Every call raises what pymongo raises.
https://www.mongodb.com/docs/v6.0/reference/command/profile/
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.errors import NotPrimaryError, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from cdc.mongo_deployment import MongoClient, connect
from cdc.profile_entry import Document, joined_collections
from cdc.profile_filter import Profiling

PROFILE: Final = "system.profile"
_AWAIT_MS: Final = 500
_BATCH: Final = 2_000
_SOCKET_TIMEOUT_MS: Final = 20_000
_CAPPED_POSITION_LOST: Final = 136
_CURSOR_NOT_FOUND: Final = 43
_LENIENT: Final = CodecOptions[dict[str, object]](
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)
_NOT_OF_A_MEMBER: Final = (
    *("replicaset", "directconnection", "loadbalanced", "readpreference", "srvservicename"),
    "srvmaxhosts",
)


@dataclass(frozen=True, slots=True)
class ProfilerState:
    """How a profiler is set; `digest` is the same as long as nobody sets it otherwise."""

    profiling: Profiling
    digest: str


async def member_addresses(client: MongoClient, uri: str) -> list[str]:
    """The members of a replica set that hold data and may be read from, `host:port`.

    Of a direct connection the one that it leads to, of a sharded cluster none.
    """
    hello = await client.admin.command("hello")
    if hello.get("msg") == "isdbgrid":
        return []
    if _option(uri, "directconnection") == "true":
        return [str(hello["me"])]
    return [*map(str, hello["hosts"]), *map(str, hello.get("passives", ()))]


def connect_member(uri: str, source: str, address: str) -> MongoClient:
    """A client of one member alone, with what the source's URI says of user and encryption."""
    parts = urlsplit(uri)
    given = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name.lower() not in _NOT_OF_A_MEMBER
    ]
    if parts.scheme == "mongodb+srv":
        # What such a URI says by itself and by DNS.
        found = cast("Mapping[str, object]", parse_uri(uri, warn=False)["options"])
        given.append(("tls", "true"))
        if "authsource" in found:
            given.append(("authSource", str(found["authsource"])))
    user, at, _ = parts.netloc.rpartition("@")
    query = urlencode([*given, ("directConnection", "true"), ("readPreference", "nearest")])
    member = f"mongodb://{user}{at}{address}{parts.path or '/'}?{query}"
    return connect(member, source, socket_timeout_ms=_SOCKET_TIMEOUT_MS)


def _option(uri: str, wanted: str) -> str:
    given = {name.lower(): value for name, value in parse_qsl(urlsplit(uri).query)}
    return given.get(wanted, "").lower()


class MongoProfiler:
    """The profiler of a database, through a client of the member it is on."""

    def __init__(self, client: MongoClient, database: str) -> None:
        self._client = client
        self._database = client[database]
        self._cursor_id = 0

    async def process(self) -> str:
        """The id of the mongod's run."""
        hello = await self._client.admin.command("hello")
        return str(hello["topologyVersion"]["processId"])

    async def state(self) -> ProfilerState:
        """How it is set now."""
        found = await self._database.command({"profile": -1})
        shown = found.get("filter")
        text = json_util.dumps([found["was"], shown], sort_keys=True)
        profiling = Profiling(int(found["was"]), int(found["slowms"]), shown)
        return ProfilerState(profiling, hashlib.sha256(text.encode()).hexdigest()[:16])

    async def set(self, profiling: Profiling) -> ProfilerState:
        """Set it; how the server then says that it is set."""
        await self._database.command(
            {
                "profile": profiling.level,
                "filter": "unset" if profiling.filter is None else profiling.filter,
            }
        )
        return await self.state()

    async def collection_id(self) -> str | None:
        """Another one whenever the profiler's collection is made anew, None where there is none."""
        cursor = await self._database.list_collections(filter={"name": PROFILE})
        async for found in cursor:
            return bytes(found["info"]["uuid"]).hex()
        return None

    async def make_collection(self, megabytes: int) -> bool:
        """Make the profiler's collection of a size; False where it is there, or the server makes
        it of its own, as secondaries do.
        """
        if await self.collection_id() is not None:
            return False
        with suppress(NotPrimaryError):
            await self._database.command(
                {"create": PROFILE, "capped": True, "size": megabytes << 20}
            )
        return True

    async def drop_collection(self) -> None:
        """Away with it and what it holds; the profiler must be off."""
        await self._database.drop_collection(PROFILE)

    async def views_on(self, collections: frozenset[str]) -> frozenset[str]:
        """The views that read any of these collections, or other views that do."""
        read: dict[str, set[str]] = {}
        cursor = await self._database.list_collections(filter={"type": "view"})
        async for view in cursor:
            options = view["options"]
            joined = joined_collections(options.get("pipeline"))
            read[str(view["name"])] = {str(options["viewOn"]), *joined}
        found = set(collections)
        while more := {view for view, names in read.items() if names & found} - found:
            found |= more
        return frozenset(found - collections)

    async def entries(self) -> list[Document] | None:
        """The entries since the last call, oldest first; empty where there came none for a while.

        None where it must begin with the first one there is, as the first call does: entries that
        were not yet read are gone, or there are none at all.
        """
        if self._cursor_id == 0:
            return await self._open()
        try:
            answer = await self._database.command(
                {
                    "getMore": self._cursor_id,
                    "collection": PROFILE,
                    "batchSize": _BATCH,
                    "maxTimeMS": _AWAIT_MS,
                },
                codec_options=_LENIENT,
            )
        except OperationFailure as error:
            self._cursor_id = 0
            if error.code in (_CAPPED_POSITION_LOST, _CURSOR_NOT_FOUND):
                return None
            raise
        return self._read(answer, "nextBatch")

    async def rewind(self) -> None:
        """Have the next call begin with the first entry there is."""
        cursor_id, self._cursor_id = self._cursor_id, 0
        if cursor_id:
            with suppress(PyMongoError):
                await self._database.command({"killCursors": PROFILE, "cursors": [cursor_id]})

    async def _open(self) -> list[Document] | None:
        answer = await self._database.command(
            {
                "find": PROFILE,
                "tailable": True,
                "awaitData": True,
                "showRecordId": True,
                "batchSize": _BATCH,
            },
            codec_options=_LENIENT,
        )
        found = self._read(answer, "firstBatch")
        # A tailable cursor on an empty collection is closed at once.
        return found if self._cursor_id else None

    def _read(self, answer: Mapping[str, Any], batch: str) -> list[Document]:  # pyright: ignore[reportExplicitAny] - pymongo's own
        cursor = answer["cursor"]
        self._cursor_id = int(cursor["id"])
        return cast("list[Document]", cursor[batch])
