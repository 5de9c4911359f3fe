from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import bson
from bson import json_util
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from cdc.mongo_extended_json import extended_json, key_json, token_from_json, token_json

UINT32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = TEXT.filter(lambda name: "\0" not in name and not name.startswith("$"))
PATTERNS = TEXT.filter(lambda pattern: "\0" not in pattern)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    TEXT,
    st.binary(max_size=20),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.builds(Binary, st.binary(max_size=20), st.sampled_from([0, 5, 6, 128, 255])),
    st.uuids().map(Binary.from_uuid),
    st.integers(-(2**50), 2**50).map(DatetimeMS),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001 - BSON's have no zone
    st.builds(Timestamp, UINT32, UINT32),
    st.decimals(-(10**20), 10**20, places=9).map(Decimal128),
    st.sampled_from(["NaN", "-Infinity", "-0", "1E+6000", "1E-6176"]).map(Decimal128),
    st.builds(Code, TEXT),
    st.tuples(PATTERNS, st.integers(0, 31)).map(lambda both: Regex[str](*both)),
    st.just(MinKey()),
    st.just(MaxKey()),
    st.builds(DBRef, TEXT, st.integers(0, 9), st.none() | TEXT),
)
VALUES: st.SearchStrategy[object] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=6)


def pymongos_own(document: bytes) -> str:
    options = json_util.RELAXED_JSON_OPTIONS
    codec = CodecOptions[dict[str, object]](
        datetime_conversion=DatetimeConversion.DATETIME_MS,
        unicode_decode_error_handler="replace",
    )
    decoded = bson.BSON(document).decode(codec)
    # repr tells 1 from 1.0 and 0.0 from -0.0, which are equal.
    return repr(json.loads(json_util.dumps(decoded, json_options=options)))


@given(DOCUMENTS)
def test_any_document_becomes_what_bson_json_util_makes_of_it(document: dict[str, object]) -> None:
    data = bson.encode(document)
    assert repr(json.loads(extended_json(data))) == pymongos_own(data)


def test_it_is_compact_and_prints_a_number_as_it_was_written() -> None:
    data = bson.encode({"price": 0.1, "tags": ["a", {"b": 1.0}]})
    assert extended_json(data) == b'{"price":0.1,"tags":["a",{"b":1.0}]}'


def test_text_that_is_not_utf8_keeps_the_rest_of_the_document() -> None:
    data = bson.encode({"bad": "ab@cd", "good": 1}).replace(b"ab@cd", b"ab\xffcd")
    assert json.loads(extended_json(data)) == {"bad": "ab�cd", "good": 1}


def test_a_year_past_9999_is_a_number_of_milliseconds() -> None:
    data = bson.encode({"at": DatetimeMS(253_402_300_800_000)})
    assert json.loads(extended_json(data)) == {"at": {"$date": {"$numberLong": "253402300800000"}}}


def test_a_document_nested_as_deeply_as_mongodb_allows_is_whole() -> None:
    document: dict[str, object] = {"leaf": 1}
    for _ in range(220):
        document = {"a": document}
    assert json.loads(extended_json(bson.encode(document))) == document


@given(st.one_of(st.binary(min_size=12, max_size=12).map(ObjectId), SCALARS))
def test_a_key_is_the_documents_key_in_extended_json(identity: object) -> None:
    data = bson.encode({"_id": identity})
    assert key_json(data) == extended_json(data)


def test_a_key_with_a_shard_key_keeps_its_order() -> None:
    assert key_json(bson.encode({"region": "eu", "_id": 7})) in (
        b'{"_id":7,"region":"eu"}',
        b'{"region":"eu","_id":7}',
    )


@given(st.text("0123456789ABCDEF", min_size=2), st.none() | st.binary(min_size=1, max_size=8))
def test_a_resume_token_comes_back_from_the_progress_record(
    data: str, type_bits: bytes | None
) -> None:
    parts: dict[str, object] = {"_data": data}
    if type_bits is not None:
        parts["_typeBits"] = type_bits
    token = bson.encode(parts)
    assert token_from_json(token_json(token)) == token


def test_dates_and_uuids_are_readable() -> None:
    data = bson.encode(
        {
            "at": datetime(2026, 11, 23, 8, 0, 0, 5_000, tzinfo=UTC),
            "id": Binary.from_uuid(uuid.UUID(int=1)),
        }
    )
    assert json.loads(extended_json(data)) == {
        "at": {"$date": "2026-11-23T08:00:00.005Z"},
        "id": {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAQ==", "subType": "04"}},
    }
