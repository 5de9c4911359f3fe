"""What a user may mean by a table's name."""

from __future__ import annotations

import pytest

from cdc.table_name import possible_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("orders", [("public", "orders")]),
        ("shop.orders", [("shop", "orders"), ("public", "shop.orders")]),
        ('"Ward X"."Beds.Table"', [("Ward X", "Beds.Table")]),
        ('shop."a""b"', [("shop", 'a"b')]),
        ('"Beds"', [("public", "Beds")]),
        ("a.b.c", [("a.b", "c"), ("a", "b.c"), ("public", "a.b.c")]),
        ('odd"name', [("public", 'odd"name')]),
        (".x", [("public", ".x")]),
    ],
)
def test_a_name_is_split_where_it_may_be(text: str, names: list[tuple[str, str]]) -> None:
    assert possible_names(text) == names
