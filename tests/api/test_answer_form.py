"""Other forms of an answer: what stands in it is not changed by them."""

from __future__ import annotations

import pytest

from api.answer_form import as_csv, without_nulls
from api.errors import ApiError


def test_csv_has_every_digit_and_postgresqls_booleans() -> None:
    body = (
        b'[{"n":12345678901234567890.0123456789,"b":true,"t":"a, \\"b\\"","j":{"k": 1e400}},\n'
        b' {"n":null,"b":false,"t":"\\u00e9","j":[1, 2]}]'
    )
    assert as_csv(body, "f").decode() == (
        'n,b,t,j\n12345678901234567890.0123456789,t,"a, ""b""","{""k"": 1e400}"\n,f,é,"[1, 2]"\n'
    )


def test_csv_of_values_that_are_no_rows_has_the_functions_name() -> None:
    assert as_csv(b'[1, null, "x"]', "numbers") == b'numbers\n1\n""\nx\n'
    assert as_csv(b"[]", "numbers") == b""


def test_what_is_null_is_left_out_at_any_depth_and_nothing_else_is_changed() -> None:
    body = b'[{"a": null, "b": {"c":null,"d":1.10}, "e": [null, {"f": null}]},\n {"a": "null"}]'
    assert without_nulls(body) == b'[{"b":{"d":1.10},"e":[null,{}]},{"a":"null"}]'
    assert without_nulls(b"null") == b"null"


@pytest.mark.parametrize("depth", [500, 5_000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    body = b'[{"a":' + b"[" * depth + b"]" * depth + b"}]"
    with pytest.raises(ApiError) as refused:
        without_nulls(body)
    assert refused.value.status == 406
