"""Paths into JSON, by which values are taken out before others read them. Pure.

The part of JSONPath (RFC 9535) that names places: `$.card.number`, `$.items[*].token`,
`$['a.b'][0]`, `$..password` (at any depth). Filters and slices are refused. Written out here
since what is walked is a stranger's: no depth of it may exhaust a stack, and places are replaced,
not only found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from events.json_codec import JsonValue

REDACTED: Final = "[redacted]"
_STEP: Final = re.compile(
    r"""(?P<deep>\.\.)?(?:
        (?(deep)|\.)(?P<name>[^\W\d][\w-]*|\*)
      | \[(?:(?P<index>\d{1,9})|(?P<any>\*)|'(?P<single>[^'\\]*)'|"(?P<double>[^"\\]*)")\]
    )""",
    re.VERBOSE,
)

_Kind: TypeAlias = Literal["name", "index", "any"]
_Container: TypeAlias = "dict[str, JsonValue] | list[JsonValue]"


@dataclass(frozen=True, slots=True)
class _Step:
    kind: _Kind
    name: str = ""
    index: int = 0
    deep: bool = False


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed path, its text kept for messages."""

    text: str
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """The path that a text writes; raises ValueError with what is wrong."""
        if not text.startswith("$"):
            raise ValueError(f"found the path {text[:80]!r}, expected it to begin with $")
        place, steps = 1, list[_Step]()
        while place < len(text):
            match = _STEP.match(text, place)
            if match is None:
                raise ValueError(
                    f"found {text[place : place + 40]!r} in the path {text[:80]!r}, expected "
                    ".name, ['name'], [0], [*], .* or ..name"
                )
            steps.append(_step(match))
            place = match.end()
        if not steps:
            raise ValueError("found the path $, expected a place below it")
        return cls(text, tuple(steps))

    def redact(self, value: JsonValue) -> int:
        """Put a mark in place of what the path names, in the value itself; returns how often."""
        places = [value]
        for step in self.steps[:-1]:
            places = [
                found for one in _reached(places, step) for found in _children(one, step).values()
            ]
        count = 0
        last = self.steps[-1]
        for one in _reached(places, last):
            for name in _children(one, last):
                if isinstance(one, dict):
                    one[str(name)] = REDACTED
                else:
                    one[int(name)] = REDACTED
                count += 1
        return count


def _step(match: re.Match[str]) -> _Step:
    deep = match["deep"] is not None
    if match["index"] is not None:
        return _Step("index", index=int(match["index"]), deep=deep)
    if match["any"] is not None or match["name"] == "*":
        return _Step("any", deep=deep)
    name = next(found for key in ("name", "single", "double") if (found := match[key]) is not None)
    return _Step("name", name=name, deep=deep)


def _reached(places: list[JsonValue], step: _Step) -> list[_Container]:
    """The objects and arrays that a step starts from: the places, or all below them too."""
    found: list[_Container] = []
    seen: set[int] = set()
    waiting = places[::-1]
    while waiting:
        one = waiting.pop()
        # Under `..` one place may be reached by several ways; each is walked once.
        if not isinstance(one, (dict, list)) or id(one) in seen:
            continue
        seen.add(id(one))
        found.append(one)
        if step.deep:
            waiting += one.values() if isinstance(one, dict) else one
    return found


def _children(one: _Container, step: _Step) -> dict[str | int, JsonValue]:
    if isinstance(one, dict):
        match step.kind:
            case "any":
                return {**one}
            case "name" if step.name in one:
                return {step.name: one[step.name]}
            case _:
                return {}
    match step.kind:
        case "any":
            return dict(enumerate(one))
        case "index" if step.index < len(one):
            return {step.index: one[step.index]}
        case _:
            return {}
