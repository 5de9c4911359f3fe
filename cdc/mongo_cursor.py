"""A change stream read by raw commands: batches come as bytes, and nothing is decoded twice.

pymongo's own `watch()` resumes by itself and builds Python objects; here resuming is the
progress record's business, and the events go to the encoder as the server sent them.
https://www.mongodb.com/docs/v6.0/reference/command/getMore/
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import PyMongoError

from cdc import mongo_bson
from cdc.mongo_deployment import MongoClient

_RAW: Final = CodecOptions(document_class=RawBSONDocument)
_AWAIT_MS: Final = 1_000


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
    """One change stream. Every call raises what pymongo raises."""

    def __init__(self, client: MongoClient, database: str | None, *, splits_events: bool) -> None:
        self._client = client
        self._database = client[database] if database is not None else client.admin
        self._whole_deployment = database is None
        self._splits_events = splits_events
        self._session: AsyncClientSession | None = None
        self._cursor_id = 0
        self._collection = ""

    async def open(self, start_after: bytes | None) -> bytes:
        """Open the stream behind a token, or now; returns the token of where it begins.

        `startAfter` goes on after any token, that of an invalidate event included.
        """
        stage: dict[str, object] = {
            "fullDocument": "whenAvailable",
            "fullDocumentBeforeChange": "whenAvailable",
            "showExpandedEvents": True,
        }
        if self._whole_deployment:
            stage["allChangesForCluster"] = True
        if start_after is not None:
            stage["startAfter"] = RawBSONDocument(start_after)
        pipeline: list[dict[str, object]] = [{"$changeStream": stage}]
        if self._splits_events:
            pipeline.append({"$changeStreamSplitLargeEvent": {}})
        await self.close()
        self._session = self._client.start_session()
        answer = await self._database.command(
            {"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": 0}},
            session=self._session,
            codec_options=_RAW,
        )
        return self._read(bytes(answer.raw), "firstBatch").token

    async def next(self) -> Batch:
        """The events since, empty where there were none for a second."""
        answer = await self._database.command(
            {
                "getMore": self._cursor_id,
                "collection": self._collection,
                "maxTimeMS": _AWAIT_MS,
            },
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
