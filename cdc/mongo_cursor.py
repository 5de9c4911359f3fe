"""A change stream read by raw commands: batches come as bytes, and nothing is decoded twice.

pymongo's own `watch()` resumes by itself and builds Python objects; here resuming is the
progress record's business, and the events go to the encoder as the server sent them.
https://www.mongodb.com/docs/v6.0/reference/command/getMore/
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from cdc import mongo_bson
from cdc.mongo_deployment import MongoClient

_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_AWAIT_MS: Final = 1_000


class Pace(Enum):
    """How events are asked for; the slower paces lead up to, and past, one that is too large.

    Document, pre-image and post-image together may pass the 16 MB that MongoDB sends at once.
    Before $changeStreamSplitLargeEvent the server then answers with an error and no event, so
    those before are taken one by one (`SINGLE`) and the large one without its images (`BARE`).
    """

    FULL = "full"
    SINGLE = "single"
    BARE = "bare"

    @property
    def slower(self) -> Pace | None:
        """What to try where this pace met an event too large."""
        return {Pace.FULL: Pace.SINGLE, Pace.SINGLE: Pace.BARE}.get(self)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one answer holds: events, and the token to resume from after all of them.

    `closed` says that the server has closed the cursor behind them.
    """

    events: list[bytes]
    token: bytes
    size_bytes: int
    closed: bool


class ChangeCursor:
    """One change stream, read at a pace. Every call raises what pymongo raises."""

    def __init__(self, client: MongoClient, database: str | None, *, splits_events: bool) -> None:
        self._client = client
        self._database = client[database] if database is not None else client.admin
        self._whole_deployment = database is None
        self._splits_events = splits_events
        self.pace = Pace.FULL
        self._session: AsyncClientSession | None = None
        self._cursor_id = 0
        self._collection = ""

    async def open(self, start_after: bytes | None, pace: Pace = Pace.FULL) -> Batch:
        """Open the stream behind a token and return its first events, or open it now.

        Now, the batch is empty and its token is where the stream begins. `startAfter` goes on
        after any token, that of an invalidate event included; asking for events at once is what
        makes the server look whether it still can.
        """
        self.pace = pace
        stage: dict[str, object] = {"showExpandedEvents": True}
        if pace is not Pace.BARE:
            stage["fullDocument"] = "whenAvailable"
            stage["fullDocumentBeforeChange"] = "whenAvailable"
        if self._whole_deployment:
            stage["allChangesForCluster"] = True
        if start_after is not None:
            stage["startAfter"] = RawBSONDocument(start_after)
        pipeline: list[dict[str, object]] = [{"$changeStream": stage}]
        if self._splits_events:
            pipeline.append({"$changeStreamSplitLargeEvent": {}})
        await self.close()
        self._session = self._client.start_session()
        cursor: dict[str, object] = {}
        if start_after is None:
            cursor["batchSize"] = 0
        elif pace is not Pace.FULL:
            cursor["batchSize"] = 1
        answer = await self._database.command(
            {"aggregate": 1, "pipeline": pipeline, "cursor": cursor},
            session=self._session,
            codec_options=_RAW,
        )
        return self._read(bytes(answer.raw), "firstBatch")

    async def next(self) -> Batch:
        """The events since, empty where there were none for a second."""
        command: dict[str, object] = {
            "getMore": self._cursor_id,
            "collection": self._collection,
            "maxTimeMS": _AWAIT_MS,
        }
        if self.pace is not Pace.FULL:
            command["batchSize"] = 1
        answer = await self._database.command(
            command,
            session=self._session,
            codec_options=_RAW,
        )
        return self._read(bytes(answer.raw), "nextBatch")

    async def close(self) -> None:
        """Let the server free the cursor; a connection that is gone is no error."""
        session, self._session = self._session, None
        if session is None:
            return
        with suppress(PyMongoError):
            if self._cursor_id:
                await self._database.command(
                    {"killCursors": self._collection, "cursors": [self._cursor_id]},
                    session=session,
                )
            await session.end_session()
        self._cursor_id = 0

    def _read(self, answer: bytes, batch_name: str) -> Batch:
        top = mongo_bson.fields(answer)
        cursor = mongo_bson.fields(answer, top[b"cursor"].start)
        self._cursor_id = mongo_bson.integer(answer, cursor[b"id"])
        namespace = mongo_bson.text(answer, cursor[b"ns"])
        self._collection = namespace.partition(".")[2]
        token = cursor[b"postBatchResumeToken"]
        events = mongo_bson.items(answer, cursor[batch_name.encode()].start)
        return Batch(
            [answer[event.start : event.stop] for event in events],
            answer[token.start : token.stop],
            len(answer),
            closed=self._cursor_id == 0,
        )
