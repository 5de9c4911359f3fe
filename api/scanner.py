"""A text read from left to right: names, quoted or bare, and what must stand between them. Pure."""

from __future__ import annotations

from typing import NoReturn

from api.errors import QuerySyntaxError

_RESERVED = frozenset(',().:*"!')


class Scanner:
    """A place in a text; `what` names the text in errors."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self.place = 0

    @property
    def at_end(self) -> bool:
        """Whether all is read."""
        return self.place >= len(self.text)

    def next_is(self, token: str) -> bool:
        """Whether a token stands here."""
        return self.text.startswith(token, self.place)

    def take(self, token: str) -> bool:
        """Read a token where it stands here."""
        if not self.next_is(token):
            return False
        self.place += len(token)
        return True

    def expect(self, token: str) -> None:
        """Read a token, which must stand here."""
        if not self.take(token):
            self.fail(repr(token))

    def end(self) -> None:
        """There must be nothing more."""
        if not self.at_end:
            self.fail("end of input")

    def fail(self, expected: str) -> NoReturn:
        """Raise QuerySyntaxError for what stands here."""
        found = repr(self.text[self.place]) if not self.at_end else "end of input"
        raise QuerySyntaxError(
            self.what, self.text, self.place, f"unexpected {found} expecting {expected}"
        )

    def name(self, expected: str = "a name") -> str:
        """A name: in double quotes, or up to a character that means something."""
        if self.next_is('"'):
            return self.quoted()
        start = self.place
        while not self.at_end:
            char = self.text[self.place]
            if char in _RESERVED or self.next_is("->"):
                break
            self.place += 1
        found = self.text[start : self.place].strip()
        if not found:
            self.fail(expected)
        return found

    def quoted(self) -> str:
        """What stands in double quotes, a backslash before a quote or a backslash taken away."""
        self.expect('"')
        out: list[str] = []
        while not self.at_end:
            char = self.text[self.place]
            self.place += 1
            if char == '"':
                return "".join(out)
            if char == "\\" and not self.at_end:
                char = self.text[self.place]
                self.place += 1
            out.append(char)
        return self.fail("'\"'")

    def until(self, stops: str) -> str:
        """Everything up to one of these characters, or to the end."""
        start = self.place
        while not self.at_end and self.text[self.place] not in stops:
            self.place += 1
        return self.text[start : self.place]
