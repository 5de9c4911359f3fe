"""A statement without what was asked for: literals become `?`, comments go.

Tokens are sqlglot's for PostgreSQL, and only those that are known to hold no value are kept: names,
key words, operators, `$1`. A statement that it may read otherwise than the server did has no
normalised form, since a quote taken wrongly turns literals inside out. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import ClassVar

from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

_STATEMENT_MAX = 256 * 1024
_WORD = re.compile(r"[^\W\d][\w$]*")
# One with an apostrophe in it may be a part of literals to a reader of what is left.
_QUOTED_NAME = re.compile(r'"(?:[^"\']|"")*"')
_OPERATOR = re.compile(r"[-+*/<>=~!@#%^&|`?.,;:()\[\]]+")
_PARAMETER = re.compile(r"\d+")
# With standard_conforming_strings off, a backslash before a quote keeps the literal open.
_AMBIGUOUS = re.compile(r"\\'")
# Where a comment ends may be seen otherwise at these.
_ODD_LINE_END = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x85\u2028\u2029]|\r(?!\n)")
_LITERALS = frozenset(
    {
        TokenType.STRING,
        TokenType.BYTE_STRING,
        TokenType.HEREDOC_STRING,
        TokenType.RAW_STRING,
        TokenType.NATIONAL_STRING,
        TokenType.UNICODE_STRING,
        TokenType.BIT_STRING,
        TokenType.HEX_STRING,
    }
)


class _Tokenizer(Postgres.Tokenizer):
    # sqlglot takes what follows these for one string; PostgreSQL does not.
    COMMANDS: ClassVar[set[TokenType]] = set()


@lru_cache(maxsize=4_096)
def normalized(statement: str) -> str | None:
    """The statement with `?` for each literal, None where that cannot be said for sure."""
    if len(statement) > _STATEMENT_MAX or _ODD_LINE_END.search(statement):
        return None
    try:
        tokens = _Tokenizer(dialect="postgres").tokenize(statement)
    except SqlglotError:
        return None
    parts: list[str] = []
    before: Token | None = None
    in_number = False
    for token in tokens:
        text = statement[token.start : token.end + 1]
        touches = before is not None and before.end + 1 == token.start
        # `1_000` and `0o17` come as a number and a name.
        in_number = token.token_type is TokenType.NUMBER or (
            in_number and touches and _WORD.fullmatch(text) is not None
        )
        kept = _kept(token, text, before if touches else None, in_number=in_number)
        if kept is None:
            return None
        if parts and not touches:
            parts.append(" ")
        if not (in_number and touches and parts[-1] == "?"):
            parts.append(kept)
        before = token
    return "".join(parts)


def _kept(token: Token, text: str, touching: Token | None, *, in_number: bool) -> str | None:
    if token.token_type in _LITERALS:
        plain = token.token_type is TokenType.STRING
        return None if plain and _AMBIGUOUS.search(text) else "?"
    if in_number:
        is_parameter = touching is not None and touching.token_type is TokenType.PARAMETER
        return text if is_parameter and _PARAMETER.fullmatch(text) else "?"
    if token.token_type is TokenType.PARAMETER or any(
        form.fullmatch(text) for form in (_WORD, _QUOTED_NAME, _OPERATOR)
    ):
        return text
    return None
