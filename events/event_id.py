"""Ids of events: deterministic, so that the same cause always gives the same id."""

from __future__ import annotations

import hashlib

from events.lsn import Lsn


def postgres_change_id(source: str, commit: Lsn, ordinal: int) -> str:
    """Id of the ordinal-th change (from 1) of the transaction committed at a position."""
    return f"{source}/{commit.fixed_width}/{ordinal}"


def postgres_message_id(source: str, position: Lsn) -> str:
    """Id of a logical message of no transaction, by what pg_logical_emit_message returned."""
    return f"{source}/{position.fixed_width}"


def mongo_change_id(source: str, seconds: int, increment: int, ordinal: int) -> str:
    """Id of the ordinal-th change (from 1) that bears one cluster time."""
    return f"{source}/{seconds:08X}{increment:08X}/{ordinal}"


def snapshot_prefix(source: str, snapshot: str) -> str:
    """What the ids of all rows that one snapshot reads begin with."""
    return f"{source}/{snapshot}/"


def emitted_id(cause: str, listener: str, step: int) -> str:
    """Id of the step-th event (from 1) that a listener emits for an event.

    A hash, since ids nest: the cause may be an emitted event itself.
    """
    text = f"{len(cause)}:{cause}{len(listener)}:{listener}{step}"
    return f"ev_{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def run_id(event: str, listener: str, attempt: int) -> str:
    """Id of the attempt-th run (from 1) of a listener for an event."""
    text = f"{len(event)}:{event}{len(listener)}:{listener}{attempt}"
    return f"run_{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"
