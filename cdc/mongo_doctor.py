"""An examination of a MongoDB source, changing nothing: will capture run, and go on running?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, cast

from bson.timestamp import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from cdc.errors import CaptureConfigError
from cdc.finding import Finding
from cdc.mongo_cursor import ChangeCursor
from cdc.mongo_deployment import Deployment, MongoClient, connect, find_deployment
from cdc.mongo_failure import explain
from cdc.mongo_images import collections_without_images
from cdc.mongo_source import MongoSource
from cdc.profile_risks import find_profile_risks

_WINDOW_WARNING_S: Final = 24 * 3600
_FULL: Final = 0.8
_NAMED: Final = 5


async def examine_mongo(source: MongoSource) -> list[Finding]:
    """Look at all that capture depends on; the first finding says whether the server answers."""
    client: MongoClient | None = None
    try:
        client = connect(source.uri, source.name)
        deployment = await find_deployment(client, source.name)
        version = ".".join(map(str, deployment.version))
        return [
            _ok("connection", f"{deployment.identity.rpartition('/')[0]} answers"),
            _ok("server", f"MongoDB {version}, has change streams"),
            await _change_stream(client, source, deployment),
            await _oplog(client),
            await _images(client, source),
            *await find_profile_risks(client, source),
        ]
    except CaptureConfigError as error:
        return [Finding.of_error("connection", error)]
    except PyMongoError as error:
        return [Finding("error", "connection", str(error), "answers to all questions", "")]
    finally:
        if client is not None:
            with suppress(PyMongoError):
                await client.close()


async def _change_stream(
    client: MongoClient, source: MongoSource, deployment: Deployment
) -> Finding:
    cursor = ChangeCursor(client, source.database, splits_events=deployment.splits_events)
    try:
        await cursor.open(None)
    except PyMongoError as error:
        explained = explain(error, source.name)
        if isinstance(explained, CaptureConfigError):
            return Finding.of_error("change stream", explained)
        return Finding("error", "change stream", str(error), "a stream that opens", "")
    finally:
        await cursor.close()
    return _ok("change stream", f"opens on {source.database or 'the whole deployment'}")


async def _oplog(client: MongoClient) -> Finding:
    """How far back capture may have stopped and still go on."""
    try:
        local = client["local"]
        oplog = local["oplog.rs"]
        first = await oplog.find_one(sort=[("$natural", 1)])
        last = await oplog.find_one(sort=[("$natural", -1)])
        stats = cast("Mapping[str, float]", await local.command("collStats", "oplog.rs"))
    except OperationFailure as error:
        return Finding(
            "warning",
            "oplog",
            f"no right to look at it ({error})",
            "the right, to tell how far back it reaches",
            "grant the role clusterMonitor (sharded clusters keep one oplog a shard)",
        )
    if first is None or last is None:
        return Finding("warning", "oplog", "an empty oplog", "the oplog of a replica set", "")
    window_s = cast("Timestamp", last["ts"]).time - cast("Timestamp", first["ts"]).time
    share = stats["size"] / stats["maxSize"]
    found = (
        f"reaches back {window_s / 3600:.1f} h, {share:.0%} of {stats['maxSize'] / 2**20:.0f} MiB"
    )
    if window_s >= _WINDOW_WARNING_S or share < _FULL:
        return _ok("oplog", found)
    return Finding(
        "warning",
        "oplog",
        found,
        "a day or more, since capture that stops for longer has lost changes",
        "db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 24})",
    )


async def _images(client: MongoClient, source: MongoSource) -> Finding:
    missing = await collections_without_images(client, source.database)
    if not missing:
        return _ok("pre-images", "on for all collections")
    names = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    found = f"off for {len(missing)} collections ({names})"
    if source.pre_images:
        return _ok("pre-images", f"{found}; capture switches them on")
    return Finding(
        "warning",
        "pre-images",
        found,
        "on, for `before` in updates and deletes",
        f"set pre_images = true under [sources.{source.name}], or run collMod with "
        "changeStreamPreAndPostImages: {enabled: true}",
    )


def _ok(subject: str, found: str) -> Finding:
    return Finding("ok", subject, found, "", "")
