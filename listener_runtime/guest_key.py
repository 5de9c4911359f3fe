"""Keys that a guest gives to its state and to its cache: bounded Unicode text."""

from __future__ import annotations

from listener_runtime.errors import HostCallError


def checked_key(what: str, key: str, max_chars: int) -> str:
    """The key itself; raises HostCallError, which begins with `what`, where it is none."""
    if not key or len(key) > max_chars:
        raise HostCallError(
            f"{what}: found a key of {len(key):,} characters, expected 1 to {max_chars}"
        )
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise HostCallError(f"{what}: found a key that is no Unicode text: {error}") from error
    return key
