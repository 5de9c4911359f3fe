"""Any bytes into what reads PostgreSQL's bytes, guided by coverage (atheris): `make fuzz`.

What must hold: bytes give a message or SourceFormatError, never another exception and never a hang;
the generated reader of inserts says what the decoder says; rows that go the compiled way become
what those that go the long way become; any line of COPY gives its values.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["cdc", "events"]):
    from cdc.copy_text import split_line
    from cdc.errors import SourceFormatError
    from cdc.pgoutput import Insert, decode_message, insert_reader, insert_relation
    from cdc.progress import PostgresProgress
    from cdc.row_encoder import RowEncoder
    from cdc.transaction_assembly import TransactionAssembly
    from events.lsn import Lsn
    from events.values.types import encoder_for
    from tests.cdc.test_row_path import OID, TYPES, outcome, relation

_READERS = [insert_reader(count) for count in (0, 1, 2, len(TYPES))]
_BEGIN = b"B" + bytes(7) + b"\x99" + bytes(12)
_HEAD = OID.to_bytes(4, "big")
_ENCODERS = [
    RowEncoder(
        "shop",
        "db",
        relation(identity, keyed=keyed),
        ["c0"] if keyed else [],
        [encoder_for(type_oid) for type_oid in TYPES],
    )
    for identity, keyed in (("f", True), ("d", True), ("f", False))
]


def decode(data: bytes) -> object:
    """What the decoder says of a message."""
    try:
        return decode_message(data)
    except SourceFormatError:
        return SourceFormatError


def read_insert(data: bytes) -> None:
    """The generated readers against the decoder."""
    expected = decode(b"I" + data)
    try:
        insert_relation(b"I" + data)
    except SourceFormatError:
        assert expected is SourceFormatError
    for read in _READERS:
        try:
            row = read(b"I" + data)
        except SourceFormatError:
            assert expected is SourceFormatError
        else:
            assert isinstance(expected, Insert)
            assert row == expected.new


def assemble(data: bytes) -> None:
    """Messages cut out of the bytes, fed to both ways of rows."""
    encoder = _ENCODERS[data[0] % len(_ENCODERS)]
    messages, rest = [_BEGIN], data[1:]
    while rest:
        size = rest[0]
        kind = b"IUD"[size % 3 : size % 3 + 1]
        messages.append(kind + _HEAD + rest[1 : 1 + size])
        rest = rest[1 + size :]
    compiled, plain = (_fed(encoder, messages, compiled=way) for way in (True, False))
    assert compiled == plain, messages


def _fed(encoder: RowEncoder, messages: list[bytes], *, compiled: bool) -> list[object]:
    start = PostgresProgress("1", 1, Lsn(100), Lsn(100))
    made = TransactionAssembly("shop", start, compiled=compiled)
    made.define(encoder)
    return outcome(made, messages)


def test_one(data: bytes) -> None:
    """One input of the fuzzer."""
    decode(data)
    read_insert(data)
    split = split_line(data.replace(b"\n", b"") + b"\n")
    assert len(split) == data.replace(b"\n", b"").count(b"\t") + 1
    if data:
        assemble(data)
        # Rows of the right number of columns, so that the values are reached.
        assemble(data[:1] + b"\xff" + b"N" + len(TYPES).to_bytes(2, "big") + data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
