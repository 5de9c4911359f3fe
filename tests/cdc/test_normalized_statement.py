"""What stands in a read event of a statement: never a literal, whatever its form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.normalized_statement import normalized

# How each form writes the secret.
FORMS = (
    "'{0}'",
    "'a''{0}'",
    "E'a\\'{0}'",
    "e'\\\\' || '{0}'",
    "U&'d\\0061{0}'",
    "N'{0}'",
    "$${0}'$$",
    "$t$ $$ '{0} $t$",
    "B'0' || '{0}'",
    "'x'\n  '{0}'",
    "'{0}'::jsonb->>'{0}'",
    "interval '1' * '{0}'",
    "/* {0} /* '{0} */ {0} */ 1",
    "1 -- {0} '\n",
    "/*+ {0} */ 2",
    "42{1}",
    "0x4{1}",
    "1_{1}",
    "-4{1}.5e{1}",
    ".4{1}",
)
SECRET, DIGITS = "Geheim", "739117"


@given(
    st.lists(st.sampled_from(FORMS), min_size=1, max_size=5),
    st.sampled_from(["select {} from p where q = {}", "copy (select {}) to stdout /* {} */"]),
)
def test_no_literal_and_no_comment_is_left(forms: list[str], frame: str) -> None:
    values = [form.format(SECRET, DIGITS) for form in forms]
    text = normalized(frame.format(", ".join(values), values[0]))
    assert text is not None
    assert SECRET not in text
    assert DIGITS not in text


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select * from p where id=7;", "select * from p where id=?;"),
        (
            'select "O""x", a$1 from p\n where id = $1 and b[1:2] @> $12',
            'select "O""x", a$1 from p where id = $1 and b[?:?] @> $12',
        ),
        ("select j #>> '{a}', x::text ~* 'b' from é", "select j #>> ?, x::text ~* ? from é"),
        ("execute p(3, 'x')", "execute p(?, ?)"),
        ("fetch 3 from c", "fetch ? from c"),
        ("", ""),
    ],
)
def test_names_and_structure_stay(statement: str, expected: str) -> None:
    assert normalized(statement) == expected


@pytest.mark.parametrize(
    "statement",
    [
        "select 'unterminated",
        "select $t$ unterminated",
        "select 1 /* unterminated 'x'",
        # With standard_conforming_strings off this is one literal and another.
        "select 'it\\'s Geheim \\'x'",
        "select 'it\\'s Geheim', 'y\\''",
        # A line end to some, inside a comment to others.
        "select 1 -- c\x0b'a\nGeheim', 'b\nGeheim'",
        "select 1 -- c\r'a\nGeheim', 'b\nGeheim'",
        "select \\ x",
        "x" * 300_000,
    ],
)
def test_what_may_be_read_in_two_ways_has_no_text(statement: str) -> None:
    assert normalized(statement) is None


@given(st.text("'\"\\$-/*;a1 \n\r\t?`E{}:", max_size=40))
def test_any_text_gives_a_text_without_quotes_or_none(statement: str) -> None:
    text = normalized(statement)
    assert text is None or "'" not in text
