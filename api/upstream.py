"""What the API asks of other servers, and who carries it out: types only.

The connections themselves (addresses that are checked, one pool for each origin, bounds) are those
of listeners' `g.http`; rowcast/ hands them in, since rooms do not import one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from api.forwarded_headers import HeaderList
from events.chain import Chain


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request; `private` says that its server may lie on a private address.

    `chain` is carried where the server is our own.
    """

    method: str
    url: str
    headers: HeaderList
    body: bytes
    response_bytes_max: int
    private: bool
    chain: Chain | None = None


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """An answer, its body unpacked; names of `headers` are in lower case."""

    status: int
    headers: HeaderList
    body: bytes


class UpstreamError(Exception):
    """No answer came; `sent` says whether the request may have been carried out all the same."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class UpstreamTimeoutError(UpstreamError):
    """No answer came in time."""


class RefusedUpstreamError(UpstreamError):
    """Nothing was sent and nothing will be: the address is not one that may be called."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class AnswerRefusedError(UpstreamError):
    """An answer came that is not passed on: too large, or packed in a way that was not asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=True)


class Outbound(Protocol):
    """Carries requests out; follows no redirect and keeps no cookie."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send one request; raises UpstreamError. The caller bounds its time."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
