"""Our own HTTP service, as g.http reaches it: there, and nowhere else, a call carries its chain.

A call is for our own service where its host or the address that it goes to is listed; what
a redirect leads elsewhere carries none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from events.chain import Chain
from events.errors import EventFormatError
from events.signed_chain import sign_chain
from listener_runtime.address_policy import HostPattern, IpAddress
from listener_runtime.errors import HostCallError


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class OwnService:
    """Where our own HTTP service is: `host:port` entries; `secret` signs."""

    def __init__(
        self, entries: Sequence[str], secret: str, now_ms: Callable[[], int] = _now_ms
    ) -> None:
        self._patterns = tuple(HostPattern.parse(entry) for entry in entries)
        self._secret = secret
        self._now_ms = now_ms

    def header(
        self, chain: Chain, host: str, port: int, addresses: Sequence[IpAddress]
    ) -> str | None:
        """The signed chain for a call to a host at these addresses; None where that is not ours.

        Raises HostCallError where the chain is too long for a header.
        """
        is_ours = self._is_listed(host, port) or (
            bool(addresses) and all(self._is_listed(str(one), port) for one in addresses)
        )
        if not is_ours or not self._secret:
            return None
        try:
            return sign_chain(chain, self._secret, self._now_ms())
        except EventFormatError as error:
            raise HostCallError(str(error)) from error

    def _is_listed(self, host: str, port: int) -> bool:
        return any(pattern.matches(host, port) for pattern in self._patterns)
