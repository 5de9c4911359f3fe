"""From pgoutput's messages to a group of changes and the progress after it.

Counts the changes of each transaction from 1, so that the same change always has the same
ordinal and id, and leaves out what progress says is published. Pure: the reader feeds it
messages, gives it the encoder of each relation that is announced, and takes groups from it.
A group ends with a transaction; only one that is larger than a group is cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from cdc.change_encoder import ChangeEncoder
from cdc.change_group import ChangeGroup, GroupLimits, headers_size_bytes
from cdc.compiled_rows import FRAME, CopyAddresses, row_path
from cdc.errors import SourceFormatError
from cdc.message_encoder import MessageEncoder, MessagePlace
from cdc.pgoutput import (
    Begin,
    Commit,
    Delete,
    LogicalMessage,
    Relation,
    Row,
    Truncate,
    Update,
    decode_message,
    insert_reader,
    insert_relation,
)
from cdc.progress import PostgresProgress
from cdc.row_encoder import Change, TransactionBytes, envelope_end
from cdc.schema_log import SchemaLog
from cdc.snapshot_chunk import WATERMARK_PREFIX, Note, SnapshotChunk
from cdc.snapshot_window import SnapshotWindow
from events.chain import CHAIN_HEADER, Chain
from events.errors import EventFormatError
from events.lsn import Lsn

if TYPE_CHECKING:
    from cdc.row_path import RowPath

_log = logging.getLogger(__name__)

CHAIN_PREFIX = "rowcast.chain"
"""Prefix of the logical message that carries a chain for what follows in its transaction."""


class TransactionAssembly:
    """What was read and not yet taken, for one source from one progress on.

    `schemas` makes events of how tables look, `messages` of logical messages; without one there
    are none. Rows go the compiled way where there is one and `compiled` is set. `tombstones`: a
    null follows each delete of a key, for compacted topics and sinks; the compiled way has none.
    """

    def __init__(
        self,
        source: str,
        progress: PostgresProgress,
        schemas: SchemaLog | None = None,
        messages: MessageEncoder | None = None,
        *,
        compiled: bool = True,
        tombstones: bool = False,
        limits: GroupLimits | None = None,
    ) -> None:
        self._rows = row_path.RowPath() if row_path is not None and compiled else None
        self._tombstones = tombstones
        self._limits = limits or GroupLimits()
        self._source = source
        self._schemas = schemas
        self._messages = messages
        self._announced: set[int] = set()
        self._progress = progress
        self._encoders: dict[int, ChangeEncoder] = {}
        self._insert_readers: dict[int, Callable[[bytes], Row]] = {}
        self._ignored: set[int] = set()
        self._group = ChangeGroup()
        self._transaction: TransactionBytes | None = None
        self._ordinal = 0
        self._skipped_to = 0
        self._headers: tuple[tuple[str, bytes], ...] = ()
        self._now_ms = 0
        self._end = envelope_end(0)
        self._xid = 0
        self._window: SnapshotWindow | None = None
        self._chunks: dict[bytes, SnapshotChunk] = {}
        if self._rows is not None:
            self._rows.set_group(self._group)
            self._rows.set_end(self._end)

    @property
    def is_open(self) -> bool:
        """Whether the last message stands inside a transaction."""
        return self._transaction is not None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._group

    @property
    def is_full(self) -> bool:
        """Whether the group should be taken before more is fed."""
        return min(self._room()) <= 0

    @property
    def progress(self) -> PostgresProgress:
        """What is published once all that was fed is."""
        if self._transaction is None or self._ordinal == 0 or self._skipped_to == _ALL:
            return self._progress
        return PostgresProgress(
            self._progress.system_id,
            self._progress.timeline,
            self._transaction.commit,
            self._progress.end,
            max(self._ordinal, self._skipped_to),
        )

    def take(self) -> tuple[ChangeGroup, PostgresProgress]:
        """The group so far, which is then empty, and the progress after it."""
        group, self._group = self._group, ChangeGroup()
        if self._rows is not None:
            self._rows.set_group(self._group)
        return group, self.progress

    def advance(self, end: Lsn) -> PostgresProgress:
        """The progress where the log up to `end` holds nothing more; not inside a transaction."""
        at = self._progress
        # A transaction published in part is still to come: its ordinal must not be forgotten.
        ordinal = at.ordinal if end <= at.commit else None
        self._progress = replace(at, end=end, ordinal=ordinal, gap=None)
        return self._progress

    def set_clock(self, now_ms: int) -> None:
        """The time that the envelopes of the messages fed next bear."""
        self._now_ms = now_ms
        self._end = envelope_end(now_ms)
        if self._rows is not None:
            self._rows.set_end(self._end)

    def define(self, encoder: ChangeEncoder) -> None:
        """How rows of a relation are encoded from now on."""
        oid = encoder.relation.oid
        self._encoders[oid] = encoder
        self._insert_readers[oid] = insert_reader(len(encoder.relation.columns))
        if self._rows is not None:
            self._rows.forget(oid)
        if self._schemas is not None:
            self._announced.add(oid)
        else:
            self._define_rows(encoder)

    def _define_rows(self, encoder: ChangeEncoder) -> None:
        """Let a relation's rows go the compiled way, where its format has one."""
        if self._rows is None or self._tombstones:
            return
        table = encoder.table()
        if table is not None:
            self._rows.define(encoder.relation.oid, table)

    def ignore(self, relation: int) -> None:
        """Leave a relation's changes out from now on; they are no changes of the source."""
        self._ignored.add(relation)
        self._encoders.pop(relation, None)
        if self._rows is not None:
            self._rows.forget(relation)

    def open_window(self) -> SnapshotWindow:
        """Begin to remember what transactions touch, for the chunks of a snapshot."""
        window = self._window = SnapshotWindow()
        if self._transaction is not None:
            window.begin(self._xid)
            window.touch_everything()
        if self._rows is not None:
            self._rows.set_window(window)
        return window

    def close_window(self) -> None:
        """Remember no more; chunks that are still expected are never placed."""
        self._window = None
        self._chunks.clear()
        if self._rows is not None:
            self._rows.set_window(None)

    def expect(self, chunk: SnapshotChunk) -> None:
        """Place a chunk where its watermark comes in the stream."""
        self._chunks[chunk.token] = chunk

    def note(self, notes: Iterable[Note], now_ms: int) -> None:
        """Publish records of state with what is published next."""
        for note in notes:
            self._group.add_note(note.topic, note.key, note.value, now_ms)

    def drain(self, copy: CopyAddresses, frames_max: int) -> tuple[int, bytes]:
        """Take in rows that have arrived on a connection until a frame comes that is none.

        What RowPath.drain returns, and the frame where there is one.
        """
        rows = self._rows
        if rows is None:
            raise RuntimeError("rows do not go the compiled way here")
        rows.ordinal = self._ordinal
        try:
            status = rows.drain(*copy, frames_max, *self._room())
        except ValueError as error:
            raise _unreadable(error) from error
        self._settle(rows)
        return status, rows.frame if status == FRAME else b""

    def feed(self, data: bytes) -> Relation | None:
        """Take in one message; a Relation is returned, to be defined before the next message.

        Raises SourceFormatError where the message cannot follow those before.
        """
        rows = self._rows
        try:
            if rows is not None:
                rows.ordinal = self._ordinal
                if rows.feed(data):
                    self._settle(rows)
                    return None
            return self._feed_long(data)
        except ValueError as error:
            raise _unreadable(error) from error

    def _feed_long(self, data: bytes) -> Relation | None:
        if data[:1] == b"I":
            self._insert(data)
            return None
        message = decode_message(data)
        match message:
            case Begin():
                self._begin(message)
            case Commit():
                self._commit(message)
            case Update():
                self._update(message)
            case Delete():
                self._delete(message)
            case Truncate():
                self._truncate(message)
            case LogicalMessage():
                self._logical_message(message)
            case Relation():
                return message
            case _:
                pass
        return None

    def _settle(self, rows: RowPath) -> None:
        """Take over the numbers of what went the compiled way."""
        self._ordinal = rows.ordinal
        self._group.record_count += rows.record_count
        self._group.size_bytes += rows.size_bytes
        rows.record_count = rows.size_bytes = 0

    def _open_rows(self) -> None:
        """Let the rows that follow go the compiled way, unless they are published already."""
        transaction = self._transaction
        if self._rows is None or transaction is None or self._ordinal < self._skipped_to:
            return
        headers = list(self._headers)
        self._rows.begin(
            transaction.head,
            transaction.tail,
            headers,
            headers_size_bytes(headers),
            transaction.timestamp_ms,
        )

    def _begin(self, message: Begin) -> None:
        self._transaction = TransactionBytes.of(
            self._source, message.commit, message.xid, message.committed_us // 1_000
        )
        if self._messages is not None:
            self._messages.commits.add(message.commit, message.xid)
        self._ordinal, self._headers, self._skipped_to = 0, (), 0
        if message.commit < self._progress.end:
            # The whole transaction is published; its commit record stands before the end.
            self._skipped_to = _ALL
        elif message.commit == self._progress.commit and self._progress.ordinal is not None:
            self._skipped_to = self._progress.ordinal
        self._xid = message.xid
        if self._window is not None and self._skipped_to != _ALL:
            self._window.begin(message.xid)
            if self._skipped_to:
                self._window.touch_everything()
        self._open_rows()

    def _commit(self, message: Commit) -> None:
        self._open_transaction()
        self._transaction = None
        if self._rows is not None:
            self._rows.end()
        if self._skipped_to != _ALL:
            self._progress = PostgresProgress(
                self._progress.system_id, self._progress.timeline, message.commit, message.end
            )

    def _insert(self, data: bytes) -> None:
        transaction = self._open_transaction()
        oid = insert_relation(data)
        if oid in self._ignored:
            return
        self._ordinal = ordinal = self._ordinal + 1
        if ordinal <= self._skipped_to:
            self._open_rows()
            return
        encoder = self._encoder(oid)
        if self._announced:
            self._tell(encoder, ordinal, transaction)
        row = self._insert_readers[oid](data)
        key, value = encoder.created(row, b"%d" % ordinal, transaction, self._end)
        self._group.add(encoder.topic, key, value, self._headers, transaction.timestamp_ms)
        if self._window is not None and key is not None:
            self._window.touch(encoder.topic, key)

    def _update(self, message: Update) -> None:
        transaction = self._open_transaction()
        if self._skipped_to == _ALL or message.relation in self._ignored:
            return
        encoder = self._encoder(message.relation)
        _check_columns(encoder, message.new, message.old)
        changes = encoder.updated(
            message.old,
            message.new,
            self._ordinal + 1,
            transaction,
            self._end,
            old_is_full=message.old_is_full,
        )
        for change in changes:
            self._add(encoder, change, transaction)
            if self._tombstones and change is not changes[-1]:
                self._bury(encoder, change, transaction)
        self._touch_keyless(encoder, message.old)

    def _delete(self, message: Delete) -> None:
        transaction = self._open_transaction()
        if self._skipped_to == _ALL or message.relation in self._ignored:
            return
        encoder = self._encoder(message.relation)
        _check_columns(encoder, message.old, None)
        change = encoder.deleted(
            message.old,
            self._ordinal + 1,
            transaction,
            self._end,
            old_is_full=message.old_is_full,
        )
        self._add(encoder, change, transaction)
        if self._tombstones:
            self._bury(encoder, change, transaction)
        self._touch_keyless(encoder, message.old)

    def _truncate(self, message: Truncate) -> None:
        transaction = self._open_transaction()
        if self._skipped_to == _ALL:
            return
        for oid in message.relations:
            if oid in self._ignored:
                continue
            encoder = self._encoder(oid)
            change = encoder.truncated(self._ordinal + 1, transaction, self._end)
            self._add(encoder, change, transaction)
            if self._window is not None:
                self._window.touch(encoder.topic, None)

    def _logical_message(self, message: LogicalMessage) -> None:
        if message.prefix == WATERMARK_PREFIX:
            chunk = self._chunks.pop(message.content, None)
            if chunk is not None and self._window is not None:
                chunk.place(self._group, self._window)
            return
        if message.prefix != CHAIN_PREFIX or not message.transactional:
            self._message(message)
            return
        try:
            Chain.decode(message.content)
        except EventFormatError as error:
            _log.warning(
                "a logical message with the prefix %s at %s is no chain and is ignored: %s",
                CHAIN_PREFIX,
                message.position,
                error,
            )
            return
        self._headers = ((CHAIN_HEADER, message.content),)
        self._open_rows()

    def _message(self, message: LogicalMessage) -> None:
        """Put a message's record into the group, where its encoder wants one."""
        encoder = self._messages
        if encoder is None or not encoder.wants(message):
            return
        if not message.transactional:
            self._lone_message(encoder, message)
            return
        transaction = self._open_transaction()
        self._ordinal += 1
        if self._ordinal > self._skipped_to:
            place = MessagePlace.inside(transaction, self._ordinal, self._end)
            record = encoder.record(message, place)
            self._group.add(*record, self._headers, transaction.timestamp_ms)

    def _lone_message(self, encoder: MessageEncoder, message: LogicalMessage) -> None:
        """A message of no transaction, which stands in the stream where it stands in the log."""
        if self._transaction is not None:
            raise SourceFormatError("found a message of no transaction inside of one")
        # Its position is that after its record, where the next commit record may begin.
        if message.position <= self._progress.end:
            return
        record = encoder.lone(message, self._now_ms)
        if record is None:
            return
        self._group.add(*record, (), self._now_ms)
        progress = self.advance(message.position)
        if progress.ordinal is None:
            # The last that was told, for whoever compares it with another timeline.
            self._progress = replace(progress, commit=message.position)

    def _add(self, encoder: ChangeEncoder, change: Change, transaction: TransactionBytes) -> None:
        self._ordinal += 1
        if self._ordinal > self._skipped_to:
            if self._announced:
                self._tell(encoder, self._ordinal, transaction)
            self._group.add(
                encoder.topic,
                change.key,
                change.value,
                self._headers,
                transaction.timestamp_ms,
            )
        if self._window is not None and change.key is not None:
            self._window.touch(encoder.topic, change.key)

    def _bury(self, encoder: ChangeEncoder, change: Change, transaction: TransactionBytes) -> None:
        """Put a null after the delete that was just added; it is no change and has no ordinal."""
        if change.key is not None and self._ordinal > self._skipped_to:
            self._group.add_note(encoder.topic, change.key, None, transaction.timestamp_ms)

    def _touch_keyless(self, encoder: ChangeEncoder, old: Row | None) -> None:
        if self._window is not None and old is not None and not encoder.is_keyed:
            self._window.touch(encoder.topic, encoder.row_json(old))

    def _tell(self, encoder: ChangeEncoder, ordinal: int, transaction: TransactionBytes) -> None:
        """Say how a table looks before its first row that is published, if that is news."""
        oid = encoder.relation.oid
        if self._schemas is None or oid not in self._announced:
            return
        # Not when it is announced: what is skipped may be older than what is told already.
        self._announced.discard(oid)
        self._define_rows(encoder)
        commit, timestamp_ms = transaction.commit, transaction.timestamp_ms
        event = self._schemas.tell(oid, encoder.look, commit, ordinal, timestamp_ms)
        if event is not None:
            self._group.add(
                self._schemas.topic, event.key, event.value, self._headers, timestamp_ms
            )

    def _room(self) -> tuple[int, int]:
        return self._limits.room(self._group, in_transaction=self._transaction is not None)

    def _open_transaction(self) -> TransactionBytes:
        if self._transaction is None:
            raise SourceFormatError("found a change outside of a transaction")
        return self._transaction

    def _encoder(self, oid: int) -> ChangeEncoder:
        encoder = self._encoders.get(oid)
        if encoder is None:
            raise SourceFormatError(
                f"found a change of the relation {oid}, which was not announced"
            )
        return encoder


def _check_columns(encoder: ChangeEncoder, row: Row, other: Row | None) -> None:
    relation = encoder.relation
    for one in (row, row if other is None else other):
        if len(one) != len(relation.columns):
            raise SourceFormatError(
                f"found {len(one)} values of {relation.schema}.{relation.name}, expected "
                f"{len(relation.columns)}"
            )


def _unreadable(error: ValueError) -> SourceFormatError:
    return SourceFormatError(
        f"found a value that is not of its type's text form ({error}), expected UTF-8 as "
        "client_encoding promises; a database in SQL_ASCII may hold anything"
    )


_ALL = 1 << 62
