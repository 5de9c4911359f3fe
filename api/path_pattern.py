"""The path of a call on a third-party API: read once, in one form, and matched. Pure.

What a caller writes reaches another server, which may read it otherwise than we do. So it is
decoded once and written anew in one form, and what servers are known to read in several ways
(dot segments, encoded slashes, empty segments, a second layer of encoding) is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_SAFE: Final = "-._~!$&'()*+,;=:@"
_ENCODED_AGAIN: Final = re.compile(r"%(?:2e|2f|5c|25|00)", re.IGNORECASE)
_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f/\\]")
PATH_CHARS_MAX: Final = 4_096
QUERY_CHARS_MAX: Final = 8_192


def read_path(raw: bytes) -> tuple[str, ...]:
    """The decoded segments of a path that begins with `/`; the last is empty after a final `/`.

    Raises ValueError with what is refused.
    """
    if len(raw) > PATH_CHARS_MAX:
        raise ValueError(f"it has {len(raw)} characters, expected {PATH_CHARS_MAX} at most")
    if not raw.startswith(b"/"):
        raise ValueError("it does not begin with /")
    if _PERCENT.search(raw):
        raise ValueError("it has a % that encodes nothing")
    segments: list[str] = []
    parts = raw[1:].split(b"/")
    for number, part in enumerate(parts):
        try:
            segment = unquote_to_bytes(part).decode()
        except UnicodeDecodeError as error:
            raise ValueError("it is not UTF-8") from error
        if _FORBIDDEN.search(segment):
            raise ValueError("it has an encoded slash, a backslash or a control character")
        if _ENCODED_AGAIN.search(segment):
            raise ValueError("it is encoded twice")
        if segment.partition(";")[0] in (".", ".."):
            raise ValueError("it has a dot segment")
        if not segment and number < len(parts) - 1:
            raise ValueError("it has an empty segment")
        segments.append(segment)
    return tuple(segments)


def write_path(segments: tuple[str, ...]) -> str:
    """The path in the one form in which it is sent."""
    return "/" + "/".join(quote(segment, safe=_SAFE) for segment in segments)


def write_query(raw: bytes) -> str:
    """A query in the form in which it is sent; raises ValueError beyond the bound."""
    if len(raw) > QUERY_CHARS_MAX:
        raise ValueError(f"it has {len(raw)} characters, expected {QUERY_CHARS_MAX} at most")
    return quote(raw, safe=_SAFE + "/?%[]")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """`/charges/*/refunds`: `*` is one segment, `**` at the end any number of them."""

    segments: tuple[str, ...]
    open_ended: bool

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """The pattern that a text writes; raises ValueError with what is wrong."""
        parts = text.removeprefix("/").split("/")
        open_ended = parts[-1] == "**"
        fixed = tuple(parts[:-1] if open_ended else parts)
        inner = [part for part in fixed[:-1] if not part]
        starred = [part for part in fixed if "*" in part and part != "*"]
        if not text.startswith("/") or inner or starred or {".", ".."} & set(fixed):
            raise ValueError(
                f"found the path {text[:200]!r}, expected one such as /charges/*/refunds or "
                "/charges/**: * for one segment, ** at the end for any number"
            )
        return cls(fixed, open_ended)

    def matches(self, segments: tuple[str, ...]) -> bool:
        """Whether decoded segments are meant."""
        count = len(self.segments)
        if len(segments) < count if self.open_ended else len(segments) != count:
            return False
        return all(
            wanted == found or (wanted == "*" and found)
            for wanted, found in zip(self.segments, segments, strict=False)
        )
