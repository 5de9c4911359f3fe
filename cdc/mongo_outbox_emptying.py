"""Deletes the outbox's documents once their events are on Kafka, so that it does not grow.

Beside the capture, which it never holds up. Only what this run has published is deleted: what was
published right before a capture was killed stays, and does no harm. Where it may not delete it says
so once, and documents stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from cdc.mongo_deployment import MongoClient
from cdc.mongo_namespace import Namespace

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 1_000


class OutboxEmptying:
    """Takes keys of documents and deletes them in `run`; nothing where not `deletes`."""

    def __init__(self, client: MongoClient, *, deletes: bool) -> None:
        self._client = client
        self._deletes = deletes
        self._waiting: dict[Namespace, list[bytes]] = {}
        self._more = asyncio.Event()

    def request(self, published: Iterable[tuple[Namespace, bytes]]) -> None:
        """Have `run` delete documents, given by their document keys."""
        if not self._deletes:
            return
        for namespace, key in published:
            self._waiting.setdefault(namespace, []).append(key)
        if self._waiting:
            self._more.set()

    async def run(self) -> None:
        """Serve requests until cancelled; raises what pymongo raises when the server is gone."""
        while True:
            await self._more.wait()
            self._more.clear()
            waiting, self._waiting = self._waiting, {}
            for namespace, keys in waiting.items():
                for start in range(0, len(keys), _AT_ONCE):
                    await self._delete(namespace, keys[start : start + _AT_ONCE])

    async def _delete(self, namespace: Namespace, keys: Iterable[bytes]) -> None:
        deletes = [{"q": RawBSONDocument(key), "limit": 1} for key in keys]
        try:
            await self._client[namespace.database].command(
                {"delete": namespace.collection, "deletes": deletes, "ordered": False}
            )
        except OperationFailure as error:
            if self._deletes:
                _log.warning(
                    "documents stay in %s though their events are on Kafka (%s); grant remove on "
                    'it (role readWrite) to the user, or set outbox = "keep" and have a TTL index',
                    namespace,
                    error,
                )
            self._deletes = False
