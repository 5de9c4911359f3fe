from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import SourceFormatError
from cdc.pgoutput import (
    POSTGRES_EPOCH_US,
    UNCHANGED,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    LogicalMessage,
    Message,
    Origin,
    Relation,
    Row,
    Truncate,
    TypeName,
    Update,
    decode_message,
    insert_reader,
    insert_relation,
)
from events.lsn import Lsn

LSNS = st.integers(0, 2**64 - 1).map(Lsn)
OIDS = st.integers(1, 2**32 - 1)
XIDS = st.integers(0, 2**32 - 1)
TIMES_US = st.integers(-(2**62), 2**62)
NAMES = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=20
)
ROWS = st.lists(st.none() | st.binary(max_size=300), max_size=12)
NEW_ROWS = st.lists(st.none() | st.just(UNCHANGED) | st.binary(max_size=300), max_size=12)
COLUMNS = st.builds(Column, NAMES, st.booleans(), OIDS, st.integers(-1, 2**31 - 1))
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Begin, LSNS, TIMES_US, XIDS),
    st.builds(Commit, LSNS, LSNS, TIMES_US),
    st.builds(Origin, LSNS, NAMES),
    st.builds(Relation, OIDS, NAMES, NAMES, st.sampled_from("dnfi"), st.lists(COLUMNS).map(tuple)),
    st.builds(TypeName, OIDS, NAMES, NAMES),
    st.builds(Insert, OIDS, ROWS),
    st.builds(Update, OIDS, ROWS, st.booleans(), NEW_ROWS),
    st.builds(Update, OIDS, st.none(), st.just(False), NEW_ROWS),
    st.builds(Delete, OIDS, ROWS, st.booleans()),
    st.builds(Truncate, st.lists(OIDS).map(tuple), st.booleans(), st.booleans()),
    st.builds(LogicalMessage, st.booleans(), LSNS, NAMES, st.binary()),
)


def written(message: Message) -> bytes:  # noqa: C901, PLR0911 - one case a message
    """The message as the server writes it, by the manual and not by our decoder."""
    match message:
        case Begin(commit, committed_us, xid):
            return b"B" + struct.pack(">QqI", commit.value, committed_us - POSTGRES_EPOCH_US, xid)
        case Commit(commit, end, committed_us):
            time = committed_us - POSTGRES_EPOCH_US
            return b"C" + struct.pack(">BQQq", 0, commit.value, end.value, time)
        case Origin(commit, name):
            return b"O" + struct.pack(">Q", commit.value) + text(name)
        case Relation(oid, schema, name, identity, columns):
            head = b"R" + struct.pack(">I", oid) + text(schema) + text(name) + identity.encode()
            return (
                head
                + struct.pack(">H", len(columns))
                + b"".join(
                    struct.pack(">B", column.is_key)
                    + text(column.name)
                    + struct.pack(">Ii", column.type_oid, column.type_modifier)
                    for column in columns
                )
            )
        case TypeName(oid, schema, name):
            return b"Y" + struct.pack(">I", oid) + text(schema) + text(name)
        case Insert(relation, new):
            return b"I" + struct.pack(">I", relation) + b"N" + row(new)
        case Update(relation, old, old_is_full, new):
            before = b"" if old is None else (b"O" if old_is_full else b"K") + row(old)
            return b"U" + struct.pack(">I", relation) + before + b"N" + row(new)
        case Delete(relation, old, old_is_full):
            return b"D" + struct.pack(">I", relation) + (b"O" if old_is_full else b"K") + row(old)
        case Truncate(relations, cascade, restart):
            flags = cascade + 2 * restart
            return b"T" + struct.pack(f">IB{len(relations)}I", len(relations), flags, *relations)
        case LogicalMessage(transactional, position, prefix, content):
            head = b"M" + struct.pack(">BQ", transactional, position.value) + text(prefix)
            return head + struct.pack(">I", len(content)) + content


def text(name: str) -> bytes:
    return name.encode() + b"\x00"


def row(values: Row) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)


@given(MESSAGES)
def test_every_message_is_read_back_as_it_was_written(message: Message) -> None:
    assert decode_message(written(message)) == message


@given(st.builds(Insert, OIDS, ROWS))
def test_the_generated_reader_of_inserts_reads_what_the_decoder_does(message: Insert) -> None:
    data = written(message)
    assert insert_relation(data) == message.relation
    assert insert_reader(len(message.new))(data) == message.new
    assert insert_reader(len(message.new) + 1)(data) == message.new


@given(st.builds(Insert, OIDS, ROWS), st.data())
def test_the_generated_reader_of_inserts_refuses_what_the_decoder_does(
    message: Insert, data: st.DataObject
) -> None:
    whole = written(message)
    broken = data.draw(
        st.one_of(
            st.integers(5, len(whole) - 1).map(lambda cut: whole[:cut]),
            st.binary(min_size=1, max_size=3).map(lambda more: whole + more),
            st.tuples(st.integers(5, len(whole) - 1), st.integers(0, 255)).map(
                lambda at: whole[: at[0]] + bytes([at[1]]) + whole[at[0] + 1 :]
            ),
        )
    )
    try:
        expected = decode_message(broken)
    except SourceFormatError:
        with pytest.raises(SourceFormatError):
            insert_reader(len(message.new))(broken)
    else:
        assert isinstance(expected, Insert)
        assert insert_reader(len(message.new))(broken) == expected.new


@given(OIDS, NEW_ROWS.filter(lambda values: UNCHANGED in values), st.booleans())
def test_only_the_new_row_of_an_update_may_hold_unchanged_values(
    oid: int, values: Row, old_is_full: bool
) -> None:
    for message in (
        Insert(oid, values),
        Update(oid, values, old_is_full, values),
        Delete(oid, values, old_is_full),
    ):
        with pytest.raises(SourceFormatError, match="unchanged value"):
            decode_message(written(message))


@given(MESSAGES, st.data())
def test_a_message_cut_short_is_refused(message: Message, data: st.DataObject) -> None:
    whole = written(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(SourceFormatError):
        decode_message(whole[:cut])


@given(MESSAGES, st.binary(min_size=1, max_size=4))
def test_a_message_with_more_behind_it_is_refused(message: Message, more: bytes) -> None:
    with pytest.raises(SourceFormatError):
        decode_message(written(message) + more)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.tuples(st.sampled_from(b"BCIUDRTMYO"), st.binary(max_size=60)).map(
            lambda both: bytes([both[0]]) + both[1]
        ),
    )
)
def test_any_bytes_give_a_message_or_the_one_error(data: bytes) -> None:
    try:
        decode_message(data)
    except SourceFormatError:
        return


def test_a_kind_that_version_1_does_not_have_is_named() -> None:
    with pytest.raises(SourceFormatError, match=r"b'S'.*version 1"):
        decode_message(b"S\x00\x00\x00\x01\x01")


def test_a_binary_value_is_refused_since_none_is_asked_for() -> None:
    data = b"I" + struct.pack(">I", 1) + b"N" + struct.pack(">H", 1) + b"b\x00\x00\x00\x01x"
    with pytest.raises(SourceFormatError, match="binary"):
        decode_message(data)


def test_an_empty_schema_is_pg_catalog() -> None:
    message = decode_message(b"Y" + struct.pack(">I", 7) + b"\x00mood\x00")
    assert message == TypeName(7, "pg_catalog", "mood")
