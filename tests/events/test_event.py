from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.chain import CHAIN_HEADER, TRACEPARENT_HEADER, Chain
from events.errors import EventFormatError, InvalidNameError
from events.event import decode_event, make_event
from events.event_id import emitted_id, mongo_change_id, postgres_change_id, run_id
from events.json_codec import JsonValue, decode, decode_object, encode
from events.lsn import Lsn

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
leaves = st.none() | st.booleans() | numbers | text
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
chains = st.builds(Chain, text, st.lists(text, max_size=60).map(tuple))


@given(json_values)
def test_json_is_read_back_as_it_was_written(value: JsonValue) -> None:
    assert decode(encode(value)) == value
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_cannot_hold_are_refused_and_not_made_null(number: float) -> None:
    for value in (number, [1, number], {"a": {"b": [number]}}):
        with pytest.raises(TypeError, match="cannot hold"):
            encode(value)


def test_what_is_no_json_value_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})
    with pytest.raises(ValueError, match="expected a JSON object, found list"):
        decode_object(b"[1]")


@given(chains)
def test_a_chain_is_read_back_from_its_header(chain: Chain) -> None:
    assert Chain.decode(chain.encode()) == chain


@given(chains, text)
def test_a_chain_counts_each_visit_of_a_listener(chain: Chain, listener: str) -> None:
    extended = chain.extended(listener)
    assert extended.root == chain.root
    assert extended.visits(listener) == chain.visits(listener) + 1
    assert extended.path[:-1] == chain.path


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'{"root":1,"path":[]}', b'{"root":"a"}'])
def test_a_header_that_is_no_chain_is_refused(header: bytes) -> None:
    with pytest.raises(EventFormatError, match="rowcast-chain"):
        Chain.decode(header)


def test_a_chain_with_something_else_than_names_in_its_path_is_refused() -> None:
    with pytest.raises(EventFormatError, match="expected names"):
        Chain.decode(b'{"root":"a","path":[1]}')


@given(json_values, chains)
def test_an_event_is_read_back_as_it_was_made(data: JsonValue, chain: Chain) -> None:
    made = make_event(
        event_id="e1", event_type="custom.x", data=data, ts_ms=7, chain=chain, traceparent="00-a"
    )
    event = decode_event(made.value, made.headers)
    assert (event.id, event.type, event.body["data"]) == ("e1", "custom.x", data)
    assert event.chain == chain
    assert event.own_chain == chain
    assert event.traceparent == "00-a"


def test_an_event_without_a_chain_begins_one() -> None:
    made = make_event(event_id="e1", event_type="custom.x", data=None, ts_ms=7)
    assert made.headers == ()
    assert decode_event(made.value).own_chain == Chain("e1")


def test_the_key_of_an_event_is_the_one_asked_for_or_its_id() -> None:
    asked = make_event(event_id="e1", event_type="custom.x", data=None, ts_ms=7, key="k")
    own = make_event(event_id="e1", event_type="custom.x", data=None, ts_ms=7)
    assert (asked.key, own.key) == (b'{"key":"k"}', b'{"key":"e1"}')


@pytest.mark.parametrize("value", [b"", b"1", b"{}", b'{"id":"a"}', b'{"id":1,"type":"custom.x"}'])
def test_bytes_that_are_no_event_are_refused(value: bytes) -> None:
    with pytest.raises(EventFormatError, match=r"expected|not a JSON object"):
        decode_event(value)


def test_an_event_of_no_family_cannot_be_made() -> None:
    with pytest.raises(InvalidNameError):
        make_event(event_id="e", event_type="x.y", data=None, ts_ms=0)


@given(st.integers(0, 2**64 - 1))
def test_a_position_is_read_back_from_postgres_text(value: int) -> None:
    lsn = Lsn(value)
    assert Lsn.parse(str(lsn)) == lsn
    assert int(lsn.fixed_width, 16) == value


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_fixed_width_positions_sort_as_positions_do(one: int, other: int) -> None:
    assert (Lsn(one).fixed_width < Lsn(other).fixed_width) == (Lsn(one) < Lsn(other))


@pytest.mark.parametrize("wrong", ["", "0", "0/", "G/1", "0/123456789", "1/2/3"])
def test_text_that_is_no_position_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected hex/hex"):
        Lsn.parse(wrong)


def test_ids_are_those_of_the_contract() -> None:
    assert postgres_change_id("shop", Lsn.parse("0/16B3748"), 3) == "shop/00000000016B3748/3"
    assert mongo_change_id("docs", 0x6700AB01, 2, 1) == "docs/6700AB0100000002/1"


@given(text, text, st.integers(1, 9), text, text, st.integers(1, 9))
def test_ids_differ_exactly_where_their_causes_do(
    event: str, listener: str, step: int, event_2: str, listener_2: str, step_2: int
) -> None:
    same = (event, listener, step) == (event_2, listener_2, step_2)
    assert (emitted_id(event, listener, step) == emitted_id(event_2, listener_2, step_2)) == same
    assert (run_id(event, listener, step) == run_id(event_2, listener_2, step_2)) == same


def test_a_header_without_a_value_says_nothing() -> None:
    names = (CHAIN_HEADER, TRACEPARENT_HEADER)
    event = decode_event(b'{"id":"1","type":"custom.x"}', [(name, None) for name in names])
    assert (event.chain, event.traceparent) == (None, None)
