from __future__ import annotations

import json
from typing import Any, cast

import pytest

from cdc.connect_encoder import ConnectEncoder
from cdc.connect_types import connect_type
from cdc.pgoutput import UNCHANGED, Column, Relation, Row
from cdc.row_encoder import Change, RowEncoder, TransactionBytes, envelope_end
from events.connect_json import plain_key, plain_value
from events.event import decode_event
from events.lsn import Lsn
from events.values.types import encoder_for

COLUMNS = (
    Column("id", True, 1700, -1),
    Column("at", False, 1114, -1),
    Column("body", False, 25, -1),
)
RELATION = Relation(16_400, "public", "pages", "d", COLUMNS)
FULL = Relation(16_400, "public", "pages", "f", COLUMNS)
TRANSACTION = TransactionBytes.of("shop", Lsn(100), 7, 1_000)
END = envelope_end(5)
NOW, NEVER = b"2026-11-24 10:00:00.5", b"infinity"


def encoders(relation: Relation = RELATION) -> tuple[ConnectEncoder, RowEncoder]:
    types = [connect_type(one.type_oid, one.type_oid, -1, "") for one in relation.columns]
    plain = [encoder_for(one.type_oid) for one in relation.columns]
    return (
        ConnectEncoder("shop", "db", relation, ["id"], types),
        RowEncoder("shop", "db", relation, ["id"], plain),
    )


def schema_fields(change: Change, row: str) -> list[str]:
    whole = cast("dict[str, Any]", json.loads(change.value))  # pyright: ignore[reportExplicitAny] - decoded JSON
    (found,) = [one for one in whole["schema"]["fields"] if one["field"] == row]
    return [field["field"] for field in found["fields"]]


@pytest.mark.parametrize("body", [b"text", None, UNCHANGED])
@pytest.mark.parametrize("at", [NOW, NEVER, None])
@pytest.mark.parametrize("old_at", [NOW, NEVER])
@pytest.mark.parametrize(("old_key", "key"), [(b"1", b"1"), (b"1", b"2.50"), (b"NaN", b"3")])
@pytest.mark.parametrize("is_full", [True, False])
def test_read_back_an_update_is_that_of_the_plain_format(
    body: bytes | None,
    at: bytes | None,
    old_at: bytes,
    old_key: bytes,
    key: bytes,
    *,
    is_full: bool,
) -> None:
    connect, plain = encoders(FULL if is_full else RELATION)
    old: Row | None = [old_key, old_at, b"old"]
    if not is_full:
        old = [old_key, None, None] if key != old_key else None
    new: Row = [key, at, body]
    written = connect.updated(old, new, 1, TRANSACTION, END, old_is_full=is_full)
    expected = plain.updated(old, new, 1, TRANSACTION, END, old_is_full=is_full)
    for one, other in zip(written, expected, strict=True):
        assert json.loads(plain_value(one.value)) == json.loads(other.value)
        assert plain_key(one.key or b"") == other.key
        assert decode_event(one.value).raw == plain_value(one.value)


def test_a_large_value_that_was_not_sent_is_in_no_schema_so_that_sinks_leave_it_alone() -> None:
    connect, _ = encoders()
    (change,) = connect.updated(
        None, [b"1", NOW, UNCHANGED], 1, TRANSACTION, END, old_is_full=False
    )
    assert schema_fields(change, "after") == ["id", "at"]
    assert schema_fields(change, "before") == ["id", "at", "body"]


def test_a_key_has_the_same_bytes_whatever_else_the_row_and_the_one_before_hold() -> None:
    connect, _ = encoders(FULL)
    usual = connect.created([b"3", NOW, b"x"], b"1", TRANSACTION, END).key
    rare = connect.created([b"3", NEVER, b"x"], b"1", TRANSACTION, END).key
    _, moved = connect.updated(
        [b"NaN", NOW, b"x"], [b"3", NOW, b"x"], 1, TRANSACTION, END, old_is_full=True
    )
    gone = connect.deleted([b"3", NEVER, b"x"], 1, TRANSACTION, END, old_is_full=True)
    assert usual == rare == moved.key == gone.key


@pytest.mark.parametrize(
    "wrong",
    [
        b'{"schema":{"type":"struct",',
        b'{"schema":{"type":"struct","fields":[]}}',
        b'{"schema":{"type":"struct","fields":[]},"payload":7}',
        b'{"schema":{"type":"struct","fields":7},"payload":{}}',
        (
            b'{"schema":{"type":"struct","fields":[{"field":"moved","fields":[]}]},'
            b'"payload":{"moved":{"id":"x"}}}'
        ),
    ],
)
def test_bytes_that_only_begin_like_connect_json_are_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="found"):
        plain_value(wrong)
