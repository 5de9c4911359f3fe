"""The keys of a file's TOML, against those that its kind knows. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from router.errors import DefinitionError


def check_keys(place: str, found: Iterable[str], known: Sequence[str]) -> None:
    """Raise DefinitionError for a key that is not known, with one that is near."""
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DefinitionError(
                f"{place}: found the unknown key {key!r}, expected {', '.join(known)}{hint}"
            )
