"""Transactions that the server sends while they are in progress, given on as if it had not.

Blocks are kept (`spill.py`) until the transaction is committed; then its messages come, in their
order, between a Begin and a Commit as version 1 of the protocol has them, and what aborted
subtransactions did is left out. So ordinals and ids are those that they would have without
streaming, and the mode can be switched at any start.

Descriptions of tables are kept whoever made them, since the server does not send them again
after the subtransaction that first needed one is undone. One that is replayed may be older than
one that came meanwhile; the newer is given again after the transaction, as the server believes
it is known.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from cdc.pgoutput_stream import (
    ABORT,
    COMMIT,
    RELATION,
    START,
    STOP,
    decode_abort,
    decode_commit,
    decode_start,
    decode_streamed,
    relation_oid,
)
from cdc.spill import Spill


@dataclass(slots=True)
class _InProgress:
    aborted: set[int] = field(default_factory=set[int])
    # When each table was described in it, and newer descriptions of other transactions.
    described: dict[int, int] = field(default_factory=dict[int, int])
    newer: dict[int, bytes] = field(default_factory=dict[int, bytes])


class StreamedTransactions:
    """The transactions in progress of one connection."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._open: dict[int, _InProgress] = {}
        self._block: int | None = None
        self._clock = 0
        self._replay: Generator[bytes] | None = None

    def take(self, data: bytes) -> bytes | None:
        """A message as it came; what is to be fed of it now, None where it is kept.

        Raises SourceFormatError, and SpillError where there is no room.
        """
        self._clock += 1
        kind = data[0] if data else 0
        if self._block is not None:
            if kind == STOP:
                self._spill.flush()
                self._block = None
            else:
                self._keep(self._block, data)
            return None
        if kind == START:
            self._block = decode_start(data)
            self._open.setdefault(self._block, _InProgress())
            return None
        if kind == ABORT:
            self._abort(*decode_abort(data))
            return None
        if kind == COMMIT:
            self._replay = self._committed(*decode_commit(data))
            return None
        if kind == RELATION:
            self._described(relation_oid(data), data, self._clock)
        return data

    def next(self) -> bytes | None:
        """The next message of a transaction that is committed, before any other is taken."""
        if self._replay is None:
            return None
        message = next(self._replay, None)
        if message is None:
            self._replay = None
        return message

    def _keep(self, transaction: int, data: bytes) -> None:
        streamed = decode_streamed(data)
        if streamed is None:
            return
        if data[0] == RELATION:
            oid = relation_oid(streamed.message)
            state = self._open[transaction]
            state.described[oid] = self._clock
            state.newer.pop(oid, None)
        self._spill.append(transaction, streamed)

    def _abort(self, transaction: int, subtransaction: int) -> None:
        if transaction == subtransaction:
            self._open.pop(transaction, None)
            self._spill.drop(transaction)
        elif transaction in self._open:
            self._open[transaction].aborted.add(subtransaction)

    def _committed(self, transaction: int, begin: bytes, commit: bytes) -> Generator[bytes]:
        state = self._open.pop(transaction, _InProgress())
        yield begin
        for xid, message in self._spill.messages(transaction):
            if message[0] == RELATION:
                oid = relation_oid(message)
                self._described(oid, message, state.described.get(oid, 0))
            elif xid in state.aborted:
                continue
            yield message
        yield commit
        self._spill.drop(transaction)
        yield from state.newer.values()

    def _described(self, oid: int, relation: bytes, clock: int) -> None:
        """A table is known so from now on, by a description that came when the clock said."""
        for state in self._open.values():
            if state.described.get(oid, clock) < clock:
                state.newer[oid] = relation
