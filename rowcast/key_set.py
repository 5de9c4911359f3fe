"""The public keys that tokens may be signed with: a JWKS in a file or at an address.

Read before the first token is looked at, and again every minute, so that keys may be turned over.
What cannot be read leaves the keys that there were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import httpx

from events.errors import TokenError
from events.token import TokenVerifier, read_key_set

_log = logging.getLogger(__name__)

_AGAIN_S = 60.0
_TIMEOUT_S = 5.0


class KeySet:
    """Keeps the keys of verifiers; `place` is a path or an http(s) address, empty for none."""

    def __init__(self, place: str, verifiers: Sequence[TokenVerifier]) -> None:
        self._place = place
        self._verifiers = verifiers
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys, once now and then again and again."""
        if self._place:
            await self._read()
            self._task = asyncio.create_task(self._read_again())

    async def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_again(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            await self._read()

    async def _read(self) -> None:
        try:
            keys = read_key_set(await self._text())
        except (OSError, httpx.HTTPError, httpx.InvalidURL, TokenError) as error:
            _log.warning(
                "the keys of tokens were not read: %s; mend http.jwks (%s)", error, self._place
            )
            return
        for verifier in self._verifiers:
            verifier.keys = keys

    async def _text(self) -> bytes:
        if not self._place.startswith(("http://", "https://")):
            return Path(self._place).read_bytes()
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            response = await client.get(self._place)
            return response.raise_for_status().content
