from __future__ import annotations

from events.values.arrays import array_encoder
from events.values.numbers import encode_integer
from events.values.text import encode_text
from events.values.types import TypeCatalogue, TypeRow, encoder_for


def test_an_unknown_type_is_text() -> None:
    assert encoder_for(999_999)(b'a"b\n') == b'"a\\"b\\n"'


def test_a_domain_is_encoded_as_its_base_type() -> None:
    catalogue = TypeCatalogue(
        [TypeRow(70_001, "d", 70_002, 0, "N"), TypeRow(70_002, "d", 23, 0, "N")]
    )
    assert catalogue.encoder(70_001)(b"7") == b"7"


def test_an_array_of_ones_own_type_uses_the_elements_delimiter() -> None:
    catalogue = TypeCatalogue(
        [
            TypeRow(70_011, "b", 0, 70_012, "A", ","),
            TypeRow(70_012, "b", 0, 0, "U", ":"),
        ]
    )
    assert catalogue.encoder(70_011)(b"{0,1:2}") == b'["0,1","2"]'


def test_what_must_be_looked_up_is_found_step_by_step() -> None:
    catalogue = TypeCatalogue()
    assert catalogue.unknown([23, 70_021]) == {70_021}
    catalogue.add([TypeRow(70_021, "d", 70_022, 0, "A")])
    assert catalogue.unknown([23, 70_021]) == {70_022}
    catalogue.add([TypeRow(70_022, "b", 0, 23, "A")])
    assert catalogue.unknown([23, 70_021]) == set()
    assert catalogue.encoder(70_021)(b"{1,NULL}") == b"[1,null]"


def test_a_type_that_is_made_of_itself_ends() -> None:
    catalogue = TypeCatalogue([TypeRow(70_031, "d", 70_031, 0, "U")])
    assert catalogue.unknown([70_031]) == set()
    assert catalogue.encoder(70_031)(b"x") == b'"x"'


def test_json_that_readers_refuse_becomes_its_text() -> None:
    encode = encoder_for(114)
    assert encode(b'{"a": [1, null]}') == b'{"a": [1, null]}'
    assert encode(b'"\\ud800"') == b'"\\"\\\\ud800\\""'
    assert encode(b"1e999") == b'"1e999"'
    deep = b"[" * 1_020 + b"]" * 1_020
    assert encode(deep) == b'"' + deep + b'"'


def test_the_sign_of_a_zero_stays() -> None:
    assert encoder_for(701)(b"-0") == b"-0.0"


def test_unusual_bounds_stay_text() -> None:
    assert array_encoder(encode_integer)(b"[0:1]={1,2}") == b'"[0:1]={1,2}"'


def test_quoted_and_escaped_elements_are_read() -> None:
    raw = rb'{a,"b,c","d\"e\\f",NULL,"NULL","",{x}}'
    assert array_encoder(encode_text)(raw) == (rb'["a","b,c","d\"e\\f",null,"NULL","",["x"]]')
