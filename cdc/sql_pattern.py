r"""A regular expression of Python's as one of PostgreSQL's that matches the same text.

JSON Schemas are checked in Python with `re.search`, by `rowcast.emit` with `~`. The two languages
differ in what looks alike: `$` before a last line break, `.`, `\b`, `\x`, and what must be escaped
in brackets. What has no equal there is refused by name. Beyond ASCII, `\d`, `\w` and `\s` are
what the database's locale says. Pure.
https://www.postgresql.org/docs/current/functions-matching.html#POSIX-SYNTAX-DETAILS
"""

from __future__ import annotations

import re
from typing import Final

REPEATS_MAX: Final = 255
"""PostgreSQL's own limit."""

_CLASSES: Final = frozenset("dws")
_ESCAPES: Final = {
    **{name: f"\\{name}" for name in "nrtfvadwsDWS"},
    "b": r"\y",
    "B": r"\Y",
    "A": r"\A",
    "Z": r"\Z",
}
_MARKS: Final = {
    ".": (r"[^\n]", True),
    "$": (r"(?=\n?$)", False),
    "^": ("^", False),
    "|": ("|", False),
}
_CONSTRAINTS: Final = frozenset("bBAZ")
_CHARACTERS: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a"}
_HEX_DIGITS: Final = {"x": 2, "u": 4, "U": 8}
_REPEAT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")
_GROUPS: Final = ("(?:", "(?=", "(?!", "(?<=", "(?<!")


class PatternDifferenceError(ValueError):
    """A regular expression that PostgreSQL has no equal of."""


def postgres_pattern(pattern: str) -> str:
    """PostgreSQL's form of a pattern that Python compiles.

    Raises PatternDifferenceError, which names the construct, where there is none.
    """
    return _Translation(pattern).whole()


class _Translation:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._out: list[str] = []
        self._repeatable = False
        self._groups: list[bool] = []

    def whole(self) -> str:
        while self._at < len(self._text):
            self._one()
        # In front of it PostgreSQL would look for options.
        return f"(?:{''.join(self._out)})"

    def _one(self) -> None:
        text, at = self._text, self._at
        match text[at]:
            case "\\":
                self._escape()
            case "[":
                self._brackets()
            case "(":
                self._group()
            case ")":
                self._put(")", repeatable=self._groups.pop())
            case "*" | "+" | "?" as mark:
                self._repeat(mark, 1)
            case "{" if self._is_repeat():
                self._bounds()
            case character:
                made, repeatable = _MARKS.get(character) or (_literal(character), True)
                self._put(made, repeatable=repeatable)

    def _put(self, made: str, *, size: int = 1, repeatable: bool = True) -> None:
        self._out.append(made)
        self._at += size
        self._repeatable = repeatable

    def _group(self) -> None:
        if not self._text.startswith("(?", self._at):
            self._groups.append(True)
            self._put("(?:", repeatable=False)
            return
        for opening in _GROUPS:
            if self._text.startswith(opening, self._at):
                self._groups.append(opening == "(?:")
                self._put(opening, size=len(opening), repeatable=False)
                return
        raise PatternDifferenceError(f"the group {self._text[self._at : self._at + 4]!r}")

    def _is_repeat(self) -> bool:
        found = _REPEAT.match(self._text, self._at)
        return found is not None and bool(found[1] or found[2])

    def _bounds(self) -> None:
        found = _REPEAT.match(self._text, self._at)
        assert found is not None  # noqa: S101 - _is_repeat has looked
        low, high = int(found[1] or 0), found[3]
        most = int(high) if high else low
        if max(low, most) > REPEATS_MAX:
            raise PatternDifferenceError(f"more than {REPEATS_MAX} repeats, {found[0]!r}")
        self._repeat(f"{{{low}{found[2]}{high}}}", len(found[0]))

    def _repeat(self, mark: str, size: int) -> None:
        if not self._repeatable:
            raise PatternDifferenceError(f"the repeat {mark!r} of what takes no character")
        after = self._text[self._at + size : self._at + size + 1]
        if after == "+":
            raise PatternDifferenceError(f"the possessive repeat {mark}+")
        # Whether a repeat is lazy does not change what matches.
        self._put(mark, size=size + (after == "?"), repeatable=False)

    def _escape(self) -> None:
        name = self._text[self._at + 1]
        if name in _ESCAPES:
            self._put(_ESCAPES[name], size=2, repeatable=name not in _CONSTRAINTS)
            return
        character, size = self._character()
        self._put(_literal(character), size=size)

    def _character(self) -> tuple[str, int]:
        """The character that stands here, escaped or not, and how much text that takes."""
        text, at = self._text, self._at
        if text[at] != "\\":
            return text[at], 1
        name = text[at + 1]
        if name in _CHARACTERS:
            return _CHARACTERS[name], 2
        if name in _HEX_DIGITS:
            size = _HEX_DIGITS[name]
            return chr(int(text[at + 2 : at + 2 + size], 16)), 2 + size
        if name.isalnum() and name.isascii():
            raise PatternDifferenceError(f"the escape \\{name}")
        return name, 2

    def _brackets(self) -> None:
        self._at += 1
        made = "["
        if self._text.startswith("^", self._at):
            self._at += 1
            made += "^"
        first = True
        while first or self._text[self._at] != "]":
            made += self._bracket_item()
            first = False
        self._at += 1
        self._put(f"{made}]", size=0)

    def _bracket_item(self) -> str:
        text, at = self._text, self._at
        if text[at] == "\\" and text[at + 1] in "dwsDWS":
            if text[at + 1] not in _CLASSES:
                raise PatternDifferenceError(f"\\{text[at + 1]} in brackets")
            self._at += 2
            return f"\\{text[at + 1]}"
        if text[at] == "\\" and text[at + 1] == "b":
            self._at += 2
            return r"\u0008"
        low = self._bracket_character()
        if text[self._at] == "-" and text[self._at + 1] != "]":
            self._at += 1
            return f"{low}-{self._bracket_character()}"
        return low

    def _bracket_character(self) -> str:
        character, size = self._character()
        self._at += size
        return _literal(character)


def _literal(character: str) -> str:
    if character.isalnum() or character in " _":
        return character
    if character.isascii() and character.isprintable():
        return f"\\{character}"
    code = ord(character)
    if code == 0:
        raise PatternDifferenceError("the character U+0000")
    return f"\\u{code:04x}" if code < 0x1_0000 else f"\\U{code:08x}"
