"""Pre- and post-images, switched on for what is captured so that `before` and `after` are whole.

collMod waits for transactions that hold the collection, and others wait behind it, so each has
a short limit and is tried again later. A collection without images is captured all the same;
its updates then say `unavailable`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from pymongo.errors import OperationFailure

from cdc.mongo_deployment import MongoClient
from cdc.mongo_namespace import Namespace

_log = logging.getLogger(__name__)

_LIMIT_MS: Final = 2_000
_PAUSE_S: Final = 5.0
_ATTEMPTS: Final = 5
_NAMESPACE_NOT_FOUND: Final = 26
_BUSY: Final = frozenset((24, 46, 50))  # LockTimeout, LockBusy, MaxTimeMSExpired


async def collections_without_images(client: MongoClient, database: str | None) -> list[Namespace]:
    """Captured collections that keep no pre-images yet; raises what pymongo raises."""
    names = [database] if database is not None else await client.list_database_names()
    found: list[Namespace] = []
    for name in names:
        async for info in await client[name].list_collections():
            namespace = Namespace(name, str(info["name"]))
            options = info.get("options", {})
            enabled = options.get("changeStreamPreAndPostImages", {}).get("enabled", False)
            # Views and time series have no change streams.
            if info["type"] == "collection" and namespace.is_captured and not enabled:
                found.append(namespace)
    return found


class ImageSwitch:
    """Switches images on for collections, and says once for each where it cannot."""

    def __init__(self, client: MongoClient) -> None:
        self._client = client
        self._waiting: set[Namespace] = set()
        self._more = asyncio.Event()

    def request(self, namespaces: Iterable[Namespace]) -> None:
        """Have `run` switch them on."""
        self._waiting.update(namespaces)
        if self._waiting:
            self._more.set()

    async def run(self) -> None:
        """Serve requests until cancelled; raises what pymongo raises when the server is gone."""
        while True:
            await self._more.wait()
            self._more.clear()
            waiting, self._waiting = self._waiting, set()
            for attempt in range(_ATTEMPTS):
                waiting = await self.enable(waiting)
                if not waiting:
                    break
                if attempt + 1 < _ATTEMPTS:
                    await asyncio.sleep(_PAUSE_S)
            for namespace in waiting:
                _log.warning(
                    "found %s locked by transactions, so it keeps no pre-images; run "
                    "db.runCommand({collMod: %r, changeStreamPreAndPostImages: {enabled: true}})",
                    namespace,
                    namespace.collection,
                )

    async def enable(self, namespaces: Iterable[Namespace]) -> set[Namespace]:
        """Switch images on; returns those that are locked now and may be tried again."""
        locked: set[Namespace] = set()
        for namespace in namespaces:
            try:
                await self._client[namespace.database].command(
                    {
                        "collMod": namespace.collection,
                        "changeStreamPreAndPostImages": {"enabled": True},
                        "maxTimeMS": _LIMIT_MS,
                    }
                )
            except OperationFailure as error:
                if error.code in _BUSY:
                    locked.add(namespace)
                elif error.code != _NAMESPACE_NOT_FOUND:  # dropped meanwhile
                    _log.warning(
                        "pre-images of %s stay off, so updates have no `before` (%s); grant "
                        "collMod (role dbAdmin) to the user, or set pre_images = false",
                        namespace,
                        error,
                    )
        return locked
