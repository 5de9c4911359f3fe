"""The TOML block at the head of a listener file, `# /// rowcast` to `# ///`.

Written as PEP 723 writes script metadata, so that editors that know that colour it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.errors import DefinitionError

_OPENING = "# /// rowcast"
_CLOSING = "# ///"


@dataclass(frozen=True, slots=True)
class TomlHeader:
    """The block's TOML and the line of the file (from 1) on which it begins."""

    toml: str
    first_line: int


def has_header(text: str) -> bool:
    """Whether there is such a block at all."""
    return any(line.rstrip() == _OPENING for line in text.splitlines())


def find_header(place: str, text: str) -> TomlHeader:
    """The block of a file; raises DefinitionError with the line and the mend."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.rstrip() == _OPENING]
    if not starts:
        raise DefinitionError(
            f"{place}: found no block {_OPENING!r}, expected one such as\n"
            "    # /// rowcast\n"
            '    # on = "db.shop.public.orders.created"\n'
            "    # ///"
        )
    if len(starts) > 1:
        raise DefinitionError(
            f"{place}:{starts[1] + 1}: found a second block {_OPENING!r}, expected one a file"
        )
    start = starts[0]
    toml: list[str] = []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if line.rstrip() == _CLOSING:
            return TomlHeader("\n".join(toml), start + 2)
        if line.rstrip() != "#" and not line.startswith("# "):
            raise DefinitionError(
                f"{place}:{number}: found {line[:60]!r} inside the block, expected '# ' and TOML, "
                f"or {_CLOSING!r} to end it"
            )
        toml.append(line[2:])
    raise DefinitionError(
        f"{place}:{start + 1}: the block {_OPENING!r} is not closed, expected a line {_CLOSING!r}"
    )
