"""Transactions that a killed process has left open.

MongoDB does not end a transaction when its client's connection breaks: it holds its documents for
a minute (transactionLifetimeLimitSeconds), and whoever writes them meanwhile gets a conflict. Ours
take milliseconds, and whoever's is ended tries again or is told to, so those that nobody has gone
on with for seconds are ended by whoever meets them.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

_log = logging.getLogger(__name__)

APP_NAME: Final = "rowcast listener"
_IDLE_S: Final = {APP_NAME: 1.0, "rowcast api": 6.0}
"""The data API's wait for Kafka inside, 4 s at most."""


async def end_abandoned_transactions(client: AsyncMongoClient[Any]) -> int:
    """End transactions of ours in which nothing has happened for a while; says how many.

    Where the server does not let us, they end by themselves.
    """
    try:
        cursor = await client["admin"].aggregate(
            [
                {"$currentOp": {"allUsers": False, "idleSessions": True}},
                {
                    "$match": {
                        "type": "idleSession",
                        "$or": [
                            {
                                "appName": name,
                                "transaction.timeInactiveMicros": {"$gt": int(idle_s * 1_000_000)},
                            }
                            for name, idle_s in _IDLE_S.items()
                        ],
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
