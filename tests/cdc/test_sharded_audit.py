"""A sharded cluster, whose mongos has no profiler: an audit of its reads is refused untouched.

There is no mongos among our servers, so what one answers to the few commands that are sent is
written here (https://www.mongodb.com/docs/v6.0/reference/command/hello/, `msg: isdbgrid`).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest
from bson import decode, encode  # pyright: ignore[reportUnknownVariableType] - its own

from cdc.errors import CaptureConfigError
from cdc.mongo import MongoSource
from rowcast import mongo_audit

pytestmark = pytest.mark.anyio

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_HELLO: dict[str, object] = {
    "ok": 1.0,
    "helloOk": True,
    "isWritablePrimary": True,
    "ismaster": True,
    "msg": "isdbgrid",
    "minWireVersion": 0,
    "maxWireVersion": 17,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
}
_ANSWERS: dict[str, dict[str, object]] = {
    "buildInfo": {"ok": 1.0, "version": "6.0.9", "versionArray": [6, 0, 9, 0]},
    "find": {"ok": 1.0, "cursor": {"id": 0, "ns": "config.version", "firstBatch": []}},
}


@dataclass
class Mongos:
    """Answers as one does, and notes what it was asked."""

    uri: str = ""
    asked: list[str] = field(default_factory=list[str])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length, request, _, code = _HEADER.unpack(await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                writer.write(self._answer(code, request, body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, code: int, request: int, body: bytes) -> bytes:
        # OP_QUERY has flags, a name that ends in a zero, and two numbers before its document.
        start = body.index(b"\0", 4) + 9 if code == _OP_QUERY else 5
        document = decode(body[start:])
        command = next(iter(document))
        if command.lower() in ("hello", "ismaster"):
            answer = _HELLO
        else:
            self.asked.append(command)
            answer = _ANSWERS.get(command, {"ok": 1.0})
        return answer_message(code, request, encode(answer))


def answer_message(code: int, request: int, document: bytes) -> bytes:
    """In the form in which it was asked."""
    if code == _OP_MSG:
        kind, content = _OP_MSG, struct.pack("<iB", 0, 0) + document
    else:
        kind, content = _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + document
    return _HEADER.pack(16 + len(content), 1, request, kind) + content


@pytest.fixture
async def mongos() -> AsyncGenerator[Mongos]:
    made = Mongos()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made.uri = f"mongodb://127.0.0.1:{port}/"
    yield made
    server.close()


async def test_an_audit_of_a_sharded_cluster_is_refused_and_nothing_is_changed(
    mongos: Mongos,
) -> None:
    source = MongoSource("docs", mongos.uri, "shop")
    with pytest.raises(CaptureConfigError, match="found a sharded cluster") as refused:
        await mongo_audit.enable(source, "reviews")
    assert "data API" in str(refused.value)
    assert set(mongos.asked) <= {*_ANSWERS, "endSessions"}
