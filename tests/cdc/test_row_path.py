"""Rows that go the compiled way and rows that go the long one become the same records."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.change_group import ChangeGroup, Record
from cdc.compiled_rows import is_compiled
from cdc.copy_text import split_line
from cdc.errors import SourceFormatError
from cdc.pgoutput import POSTGRES_EPOCH_US, Column, Relation
from cdc.progress import PostgresProgress
from cdc.row_encoder import RowEncoder, SnapshotBytes
from cdc.snapshot_chunk import Note
from cdc.transaction_assembly import CHAIN_PREFIX, TransactionAssembly
from events.lsn import Lsn
from events.values.types import encoder_for

# One of each way that the compiled module knows, and two that it calls Python for.
TYPES = (20, 1700, 25, 16, 701, 1114, 1184, 3802, 1009, 17)
OID = 16_400


def test_the_compiled_way_is_there() -> None:
    # Where it is not, the comparisons below hold the long way against itself.
    assert is_compiled(), "no C compiler: install gcc, then run `make install` again"


def relation(identity: str, *, keyed: bool) -> Relation:
    columns = tuple(
        Column(f"c{index}", identity == "f" or (keyed and index == 0), type_oid, -1)
        for index, type_oid in enumerate(TYPES)
    )
    return Relation(OID, "public", 'odd "name"%', identity, columns)


def assembly(shape: Relation, *, keyed: bool, compiled: bool) -> TransactionAssembly:
    made = TransactionAssembly(
        "shop", PostgresProgress("1", 1, Lsn(100), Lsn(100)), compiled=compiled
    )
    encoders = [encoder_for(column.type_oid) for column in shape.columns]
    made.define(RowEncoder("shop", "db", shape, ["c0"] if keyed else [], encoders))
    made.set_clock(1_795_395_486_562)
    return made


def field(value: bytes | None) -> bytes:
    if value is None:
        return b"n"
    return b"u" if value == UNCHANGED else b"t" + struct.pack(">I", len(value)) + value


UNCHANGED = b"\0unchanged"

documents = st.recursive(
    st.sampled_from(
        ("1", "-0", "1.5", "1e400", "12345678901234567890", "0.1234567890123456", "true", "null")
    )
    | st.text(max_size=5).map(lambda text: '"' + text.replace("\\", "").replace('"', "") + '"')
    | st.sampled_from(('"\\u0041"', '"\\ud800"', '"a\\"b"', '"\\\\"', "false")),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
    max_leaves=6,
)
VALUES: tuple[st.SearchStrategy[bytes], ...] = (
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    st.sampled_from((b"1.50", b"NaN", b"-Infinity")),
    st.text(max_size=40).map(str.encode) | st.binary(max_size=8),
    st.sampled_from((b"t", b"f")),
    st.sampled_from((b"1.5", b"-0", b"NaN", b"Infinity", b"-Infinity", b"1e+300", b"")),
    st.sampled_from((b"2026-11-23 08:17:59", b"0044-03-15 00:00:00 BC", b"infinity"))
    | st.integers(0, 999_999).map(lambda part: b"2026-11-23 08:17:59.%d" % part),
    st.sampled_from((b"2026-11-23 08:17:59+00", b"10000-01-01 00:00:00+00", b"-infinity"))
    | st.integers(0, 999_999).map(lambda part: b"2026-11-23 08:17:59.%06d+00" % part)
    | st.sampled_from((b"2026-11-23 08:17:59.1+00", b"2026-11-23 08:17:59.5+05:30")),
    documents.map(str.encode),
    st.sampled_from((b"{}", b'{a,NULL,"b\\"c"}', b"[0:1]={a,b}")),
    st.binary(max_size=8).map(lambda raw: b"\\x" + raw.hex().encode()),
)


def rows(unchanged: bool) -> st.SearchStrategy[bytes]:
    others = st.sampled_from((None, UNCHANGED)) if unchanged else st.none()
    return st.tuples(*(value | others for value in VALUES)).map(
        lambda row: struct.pack(">H", len(row)) + b"".join(map(field, row))
    )


head = struct.pack(">I", OID)
changes = st.one_of(
    rows(unchanged=False).map(lambda new: b"I" + head + b"N" + new),
    rows(unchanged=True).map(lambda new: b"I" + head + b"N" + new),
    rows(unchanged=True).map(lambda new: b"U" + head + b"N" + new),
    st.tuples(st.sampled_from((b"O", b"K")), rows(unchanged=False), rows(unchanged=True)).map(
        lambda parts: b"U" + head + parts[0] + parts[1] + b"N" + parts[2]
    ),
    # The same row twice: nothing or little has changed.
    rows(unchanged=False).map(lambda row: b"U" + head + b"O" + row + b"N" + row),
    st.tuples(st.sampled_from((b"O", b"K")), rows(unchanged=False)).map(
        lambda parts: b"D" + head + parts[0] + parts[1]
    ),
    st.binary(max_size=30).map(lambda rest: b"I" + head + rest),
    st.tuples(rows(unchanged=False), st.integers(0, 60)).map(
        lambda cut: (b"I" + head + b"N" + cut[0])[: -cut[1] or None]
    ),
)


def message(content: bytes) -> bytes:
    prefix = CHAIN_PREFIX.encode() + b"\0"
    return b"M" + struct.pack(">BQ", 1, 1) + prefix + struct.pack(">I", len(content)) + content


def outcome(made: TransactionAssembly, messages: list[bytes]) -> list[object]:
    told: list[object] = []
    for data in messages:
        try:
            told.append(made.feed(data))
        except (SourceFormatError, ValueError) as error:
            told.append((type(error), str(error)))
        told.append((made.progress, made.is_full))
    group, progress = made.take()
    return [*told, group.records, group.record_count, group.size_bytes, progress]


CHAIN = b'{"root":"a","path":["b"]}'


@given(
    st.lists(changes, max_size=4),
    st.sampled_from("dnf"),
    st.booleans(),
    st.sampled_from((None, CHAIN)),
)
def test_both_ways_write_the_same_bytes(
    changed: list[bytes], identity: str, keyed: bool, chain: bytes | None
) -> None:
    shape = relation(identity, keyed=keyed)
    begin = b"B" + struct.pack(">QqI", 200, 1_000_000_000 - POSTGRES_EPOCH_US, 739)
    end = b"C" + struct.pack(">BQQq", 0, 200, 230, 0)
    chained = [message(chain)] if chain is not None else []
    messages = [*changed[:1], begin, *changed[:2], *chained, *changed[2:], end]
    long, compiled = (assembly(shape, keyed=keyed, compiled=compiled) for compiled in (False, True))
    assert outcome(compiled, messages) == outcome(long, messages)


@pytest.mark.parametrize("keyed", [True, False])
def test_rows_touched_under_a_window_are_remembered_both_ways(keyed: bool) -> None:
    shape = relation("f", keyed=keyed)
    row = struct.pack(">H", len(TYPES)) + field(b"7") + b"n" * (len(TYPES) - 1)
    messages = [
        b"B" + struct.pack(">QqI", 200, 1_000_000_000, 739),
        b"I" + head + b"N" + row,
        b"U" + head + b"O" + row + b"N" + row,
        b"D" + head + b"O" + row,
    ]
    touched: list[list[object]] = []
    for compiled in (False, True):
        made = assembly(shape, keyed=keyed, compiled=compiled)
        window = made.open_window()
        for data in messages:
            made.feed(data)
        touched.append([*window.touches()])
    assert touched[0] == touched[1]
    assert len(touched[0]) >= 2


def test_a_transaction_published_in_part_goes_on_where_it_was_cut() -> None:
    shape = relation("d", keyed=True)
    row = struct.pack(">H", len(TYPES)) + field(b"7") + b"n" * (len(TYPES) - 1)
    begin = b"B" + struct.pack(">QqI", 200, 1_000_000_000, 739)
    outcomes: list[list[Record]] = []
    for compiled in (False, True):
        made = TransactionAssembly(
            "shop", PostgresProgress("1", 1, Lsn(200), Lsn(100), 2), compiled=compiled
        )
        encoders = [encoder_for(column.type_oid) for column in shape.columns]
        made.define(RowEncoder("shop", "db", shape, ["c0"], encoders))
        for data in (begin, *[b"I" + head + b"N" + row] * 4):
            made.feed(data)
        group, _ = made.take()
        assert group.record_count == 2
        outcomes += group.records.values()
    assert outcomes[0] == outcomes[1]


def test_notes_stand_among_rows_in_their_order() -> None:
    shape = relation("d", keyed=True)
    row = struct.pack(">H", len(TYPES)) + field(b"7") + b"n" * (len(TYPES) - 1)
    groups: list[ChangeGroup] = []
    for compiled in (False, True):
        made = assembly(shape, keyed=True, compiled=compiled)
        made.feed(b"B" + struct.pack(">QqI", 200, 1_000_000_000, 739))
        made.feed(b"I" + head + b"N" + row)
        (topic,) = made.take()[0].records
        made.feed(b"I" + head + b"N" + row)
        made.note([Note(topic, b"key", b"note")], 5)
        made.feed(b"I" + head + b"N" + row)
        groups.append(made.take()[0])
    assert groups[0].records == groups[1].records
    assert groups[0].record_count == groups[1].record_count == 3


def copied(values: list[bytes | None]) -> bytes:
    """A line of COPY's text format."""
    escapes = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))
    fields: list[bytes] = []
    for value in values:
        text = b"\\N" if value is None else value
        for plain, escaped in escapes if value is not None else ():
            text = text.replace(plain, escaped)
        fields.append(text)
    return b"\t".join(fields) + b"\n"


@given(
    st.lists(
        st.tuples(
            *(st.none() | values if index else values for index, values in enumerate(VALUES))
        ),
        max_size=4,
    )
)
def test_lines_of_a_snapshot_are_the_same_either_way(rows: list[tuple[bytes | None, ...]]) -> None:
    shape = relation("d", keyed=True)
    encoder = RowEncoder(
        "shop", "db", shape, ["c0"], [encoder_for(one.type_oid) for one in shape.columns]
    )
    snapshot = SnapshotBytes.of("shop", "abcd", Lsn(100), 5)
    lines = [copied(list(row)) for row in rows]
    try:
        expected = [encoder.read(split_line(line), snapshot) for line in lines]
    except ValueError:
        with pytest.raises(ValueError, match="decode"):
            encoder.read_lines(lines, snapshot, [])
        return
    found: list[tuple[bytes, bytes]] = [(b"", b"")]
    encoder.read_lines(lines, snapshot, found)
    assert found[1:] == expected


@pytest.mark.parametrize("wrong", [b"", b"1\t2", b"1\n", b"1" + b"\t2" * 10 + b"\n"])
def test_a_line_of_another_shape_is_no_row(wrong: bytes) -> None:
    shape = relation("d", keyed=True)
    encoder = RowEncoder(
        "shop", "db", shape, ["c0"], [encoder_for(one.type_oid) for one in shape.columns]
    )
    with pytest.raises(ValueError, match="unpack"):
        encoder.read_lines([wrong], SnapshotBytes.of("shop", "abcd", Lsn(100), 5), [])
