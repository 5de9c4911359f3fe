"""The outbox's collection as capture wants it: there, and refusing what is no event.

Made where it is missing, so that a transaction may insert into it. A validator of somebody else's
is left alone. Where the user may do neither, capture goes on: it checks each document anyway.
"""

from __future__ import annotations

import logging

from pymongo.errors import OperationFailure

from cdc.mongo_deployment import MongoClient
from cdc.mongo_outbox import OUTBOX_COLLECTION
from cdc.mongo_outbox_validator import TITLE, outbox_validator
from cdc.mongo_source import MongoSource

_log = logging.getLogger(__name__)


async def ensure_outbox(client: MongoClient, source: MongoSource) -> None:
    """See to the collection of a source with one database; raises what pymongo raises otherwise."""
    if source.database is None:
        return
    database = client[source.database]
    wanted = outbox_validator(source.schemas)
    try:
        cursor = await database.list_collections(filter={"name": OUTBOX_COLLECTION})
        found = await cursor.to_list()
        if not found:
            await database.create_collection(OUTBOX_COLLECTION, validator=wanted)
            return
        present = found[0].get("options", {}).get("validator")
        if present == wanted or (present and present.get("$jsonSchema", {}).get("title") != TITLE):
            return
        await database.command({"collMod": OUTBOX_COLLECTION, "validator": wanted})
    except OperationFailure as error:
        _log.info(
            "%s: MongoDB itself does not refuse documents in %s that are no events (%s); capture "
            "does. Grant the role dbAdmin to the user to have both",
            source.name,
            OUTBOX_COLLECTION,
            error,
        )
