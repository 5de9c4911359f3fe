"""What MongoDB says when an operation fails, as the guest reads it."""

from __future__ import annotations

from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from listener_runtime.errors import HostCallError


def host_call_error(source: str, error: Exception) -> HostCallError:
    """The error that a guest sees for one of PyMongo's or bson's."""
    if isinstance(error, ServerSelectionTimeoutError):
        return HostCallError(f"the source {source!r} was not reached: {_first(error)}")
    if isinstance(error, ConnectionFailure):
        return HostCallError(
            f"the connection to the source {source!r} was lost during the call: {_first(error)}"
        )
    if isinstance(error, BulkWriteError):
        failures = [
            f"document {failure.get('index')}: {failure.get('errmsg')}"
            for failure in (error.details or {}).get("writeErrors", [])[:3]
        ]
        return HostCallError(f"MongoDB {error.code}: {'; '.join(failures) or _first(error)}")
    if isinstance(error, OperationFailure):
        name = (error.details or {}).get("codeName", "")
        return HostCallError(f"MongoDB {error.code} {name}: {_first(error)}".replace(" :", ":"))
    if isinstance(error, PyMongoError):
        return HostCallError(f"MongoDB: {_first(error)}")
    return HostCallError(f"MongoDB cannot take this: {error}")


def _first(error: Exception) -> str:
    """The message without the topology and the whole answer, which PyMongo appends."""
    text = str(error)
    for mark in (", full error:", ", Timeout:", ", Topology Description:"):
        text = text.partition(mark)[0]
    return text
