"""Transactions that a killed process has left open.

MongoDB does not end a transaction when its client's connection breaks: it holds its documents for
a minute (transactionLifetimeLimitSeconds), and whoever writes them meanwhile gets a conflict. Ours
take milliseconds and are tried again where they are ended, so those that nobody has gone on with
for seconds are ended by whoever meets them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

_log = logging.getLogger(__name__)

APP_NAME: Final = "rowcast listener"
IDLE_S: Final = 1.0


async def end_abandoned_transactions(client: AsyncMongoClient[Mapping[str, object]]) -> int:
    """End listeners' transactions in which nothing has happened for a while; says how many.

    Where the server does not let us, they end by themselves.
    """
    try:
        cursor = await client["admin"].aggregate(
            [
                {"$currentOp": {"allUsers": False, "idleSessions": True}},
                {
                    "$match": {
                        "type": "idleSession",
                        "appName": APP_NAME,
                        "transaction.timeInactiveMicros": {"$gt": int(IDLE_S * 1_000_000)},
                    }
                },
                {"$project": {"lsid": 1}},
            ]
        )
        sessions = [each["lsid"] async for each in cursor]
        if sessions:
            await client["admin"].command("killSessions", sessions)
            _log.warning("ended %d transactions that a killed process left open", len(sessions))
    except PyMongoError as error:
        _log.info("transactions left open are not looked for: %s", error)
        return 0
    return len(sessions)
