"""Capture of MongoDB: one change stream becomes records on Kafka, each change exactly once.

This is what the command line starts: it connects, opens and closes, and says what pymongo's
errors mean. `mongo_capture` is the loop, over `mongo_cursor` (the server) and `mongo_stream`
(pure). It is crash-only: whatever fails raises, and the next start goes on from the progress.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pymongo.errors import PyMongoError

from cdc.mongo_capture import MongoCapture
from cdc.mongo_cursor import ChangeCursor
from cdc.mongo_deployment import connect, find_deployment
from cdc.mongo_failure import explain
from cdc.mongo_images import ImageSwitch, collections_without_images
from cdc.mongo_outbox_collection import ensure_outbox
from cdc.mongo_outbox_emptying import OutboxEmptying
from cdc.mongo_source import MongoSource
from cdc.publisher import Publisher
from events.cluster import Cluster

__all__ = ["MongoSource", "capture_mongo"]


async def capture_mongo(
    source: MongoSource,
    cluster: Cluster,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
) -> None:
    """Capture until `stop` is set; `on_ready` is called once nothing can be lost any more.

    Raises CaptureConfigError, CaptureGapError, SourceLostError or PublishError; the process
    should then end and be started again.
    """
    client = connect(source.uri, source.name)
    publisher = Publisher(cluster, source.name)
    try:
        deployment = await find_deployment(client, source.name)
        cursor = ChangeCursor(client, source.database, splits_events=deployment.splits_events)
        images = ImageSwitch(client)
        emptying = OutboxEmptying(client, deletes=source.outbox == "delete")
        capture = MongoCapture(
            source, cluster, deployment.identity, publisher, cursor, images, emptying
        )
        try:
            await ensure_outbox(client, source)
            await capture.open()
            if source.pre_images:
                # After the stream is open: a collection made later is in the stream.
                images.request(
                    await images.enable(await collections_without_images(client, source.database))
                )
            await capture.run(stop, on_ready)
        except PyMongoError as error:
            raise explain(error, source.name) from error
        finally:
            await cursor.close()
    finally:
        await publisher.close()
        with suppress(PyMongoError):
            await client.close()
