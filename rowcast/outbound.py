"""Third-party APIs reach other servers through the connections that `g.http` uses.

Rooms do not import one another; here the API's requests become those of the sandbox's host side,
and the verdicts on addresses are the same.
"""

from __future__ import annotations

from typing import Final

import httpx

from api.upstream import (
    AnswerRefusedError,
    RefusedUpstreamError,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamTimeoutError,
)
from events.chain import Chain
from listener_runtime.address_policy import IpAddress, is_public, is_reachable
from listener_runtime.connections import ADDRESSES_TRIED, Connections, read_body, resolve
from listener_runtime.errors import AnswerError, HostCallError, NotReachedError
from listener_runtime.http_request import Origin, OutgoingRequest, origin_of
from listener_runtime.own_service import OwnService

_UNPACKED: Final = frozenset(("", "identity", "gzip", "x-gzip", "deflate"))


class PinnedOutbound:
    """api.upstream.Outbound over connections to addresses that were checked."""

    def __init__(self, own: OwnService) -> None:
        self._own = own
        self._connections = Connections()

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send one request; raises UpstreamError. The caller bounds its time."""
        try:
            outgoing = _outgoing(request)
            addresses = _usable(outgoing.origin, await resolve(outgoing.origin), request)
            signed = self._signed(request.chain, outgoing.origin, addresses)
            exchange = self._connections.exchange(outgoing, addresses, signed)
        except NotReachedError as error:
            raise UpstreamError(str(error), sent=False) from error
        except HostCallError as error:
            raise RefusedUpstreamError(str(error)) from error
        try:
            async with exchange as response:
                return await _response(response, request)
        except AnswerError as error:
            raise AnswerRefusedError(_without_address(error, request)) from error
        except NotReachedError as error:
            if isinstance(error.__cause__, httpx.TimeoutException):
                raise UpstreamTimeoutError(str(error), sent=False) from error
            raise UpstreamError(str(error), sent=False) from error
        except HostCallError as error:
            raise UpstreamError(str(error), sent=True) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    def _signed(
        self, chain: Chain | None, origin: Origin, addresses: list[IpAddress]
    ) -> str | None:
        if chain is None:
            return None
        return self._own.header(chain, origin.host, origin.port, addresses)


def _outgoing(request: UpstreamRequest) -> OutgoingRequest:
    try:
        url = httpx.URL(request.url)
    except (httpx.InvalidURL, ValueError) as error:
        raise HostCallError(f"found {request.url!r}, expected an address: {error}") from error
    return OutgoingRequest(request.method, url, origin_of(url), dict(request.headers), request.body)


def _usable(origin: Origin, found: list[IpAddress], request: UpstreamRequest) -> list[IpAddress]:
    usable = [one for one in found if is_reachable(one) and (request.private or is_public(one))]
    if not usable:
        shown = ", ".join(str(one) for one in found[:3]) or "no address"
        raise RefusedUpstreamError(f"{origin.authority} lies on {shown}, which is not public")
    return usable[:ADDRESSES_TRIED]


async def _response(response: httpx.Response, request: UpstreamRequest) -> UpstreamResponse:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in _UNPACKED:
        raise AnswerRefusedError(f"answered packed as {encoding[:40]}, which was not asked for")
    headers = tuple((name.lower(), value) for name, value in response.headers.multi_items())
    body = await read_body(response, request.response_bytes_max, request.url)
    return UpstreamResponse(response.status_code, headers, body)


def _without_address(error: AnswerError, request: UpstreamRequest) -> str:
    return str(error).replace(request.url, "").strip()
