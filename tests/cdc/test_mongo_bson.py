from __future__ import annotations

import bson
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.decimal128 import Decimal128
from bson.errors import InvalidBSON
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from cdc import mongo_bson

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
NAMES = TEXT.filter(lambda name: "\0" not in name)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_nan=False),
    TEXT,
    st.binary(max_size=9),
    st.builds(Binary, st.binary(max_size=9), st.sampled_from([2, 5, 128])),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.just(Decimal128("1.5")),
    st.builds(Code, TEXT),
    TEXT.map(lambda text: Code(text, {"x": 1})),
    NAMES.map(lambda text: Regex[str](text, "im")),
    st.just(bson.MinKey()),
    st.just(bson.MaxKey()),
)
VALUES: st.SearchStrategy[object] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=6)


@given(DOCUMENTS)
def test_fields_taken_apart_and_put_together_are_the_document(document: dict[str, object]) -> None:
    data = bson.encode(document)
    parts = mongo_bson.fields(data)
    whole = {name: mongo_bson.element(data, field) for name, field in parts.items()}
    assert mongo_bson.compose(whole) == data


@given(DOCUMENTS, st.binary(max_size=5))
def test_a_document_inside_other_bytes_is_found_at_its_start(
    document: dict[str, object], before: bytes
) -> None:
    data = before + bson.encode(document) + b"\x00rest"
    assert [name.decode() for name in mongo_bson.fields(data, len(before))] == list(document)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=12))
def test_items_of_an_array_keep_their_order(numbers: list[int]) -> None:
    data = bson.encode({"a": numbers})
    array = mongo_bson.fields(data)[b"a"]
    found = [mongo_bson.integer(data, item) for item in mongo_bson.items(data, array.start)]
    assert found == numbers


@given(TEXT, st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1))
def test_values_are_read_as_they_were_written(text: str, number: int, seconds: int) -> None:
    data = bson.encode({"t": text, "n": Int64(number), "ts": Timestamp(seconds, 7)})
    parts = mongo_bson.fields(data)
    assert mongo_bson.text(data, parts[b"t"]) == text
    assert mongo_bson.integer(data, parts[b"n"]) == number
    assert mongo_bson.timestamp(data, parts[b"ts"]) == (seconds, 7)


@given(DOCUMENTS, st.data())
def test_damaged_bytes_are_refused_and_never_read_past_their_end(
    document: dict[str, object], data: st.DataObject
) -> None:
    whole = bson.encode(document)
    damaged = bytearray(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(whole)))])
    try:
        parts = mongo_bson.fields(cut)
    except InvalidBSON:
        return
    assert all(0 <= field.start <= field.stop < len(cut) for field in parts.values())


def test_a_null_document_is_none_and_another_type_is_refused() -> None:
    data = bson.encode({"none": None, "text": "x", "inner": {"a": 1}})
    parts = mongo_bson.fields(data)
    assert mongo_bson.document(data, parts[b"none"]) is None
    assert mongo_bson.document(data, None) is None
    assert mongo_bson.document(data, parts[b"inner"]) == bson.encode({"a": 1})
    with pytest.raises(InvalidBSON, match="expected a document"):
        mongo_bson.document(data, parts[b"text"])
    with pytest.raises(InvalidBSON, match="expected a string"):
        mongo_bson.text(data, parts[b"inner"])
    with pytest.raises(InvalidBSON, match="expected an integer"):
        mongo_bson.integer(data, parts[b"text"])
    with pytest.raises(InvalidBSON, match="expected a timestamp"):
        mongo_bson.timestamp(data, parts[b"text"])
