"""The public keys that tokens may be signed with: a JWKS in a file or at an address.

Read before the first token is looked at, and again every minute, so that keys may be turned over;
sooner, but not more than once in a few seconds, where a token names a key that is not known. What
cannot be read leaves the keys that there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

import httpx

from events.errors import TokenError
from events.token import TokenVerifier, read_key_set

_log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_BYTES_MAX = 1024 * 1024


class KeySet:
    """Keeps the keys of verifiers; `place` is a path or an http(s) address, empty for none.

    `again_s` is how often it is read at least, `soonest_s` how soon after the last time.
    """

    def __init__(
        self,
        place: str,
        verifiers: Sequence[TokenVerifier],
        *,
        again_s: float = 60.0,
        soonest_s: float = 5.0,
    ) -> None:
        self._place = place
        self._verifiers = verifiers
        self._again_s = again_s
        self._soonest_s = soonest_s
        self._text = b""
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys, once now and then again and again."""
        if self._place:
            for verifier in self._verifiers:
                verifier.on_unknown_key = self._asked.set
            await self._read()
            self._task = asyncio.create_task(self._read_again())

    async def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_again(self) -> None:
        while True:
            await asyncio.sleep(self._soonest_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._again_s - self._soonest_s):
                    await self._asked.wait()
            await self._read()

    async def _read(self) -> None:
        # Before reading: who asks meanwhile may not see what is read.
        self._asked.clear()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                text = await self._fetch()
            # The same keys stay the same object, so that what rests on them is not done anew.
            keys = read_key_set(text) if text != self._text else None
        except (OSError, httpx.HTTPError, httpx.InvalidURL, TokenError) as error:
            _log.warning(
                "the keys of tokens were not read: %s; mend http.jwks (%s)",
                str(error) or type(error).__name__,
                self._place,
            )
            return
        if keys is not None:
            self._text = text
            for verifier in self._verifiers:
                verifier.keys = keys

    async def _fetch(self) -> bytes:
        if not self._place.startswith(("http://", "https://")):
            return await asyncio.to_thread(Path(self._place).read_bytes)
        text = bytearray()
        async with (
            httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", self._place) as response,
        ):
            response.raise_for_status()
            async for chunk in response.aiter_bytes():
                text += chunk
                if len(text) > _BYTES_MAX:
                    raise TokenError(
                        f"found more than {_BYTES_MAX} bytes, expected a JWKS of some keys"
                    )
        return bytes(text)
