"""Connections to other servers, at addresses that were checked.

A name is resolved here, once for each request, and the connection goes to the address that was
checked, so that a name cannot change its meaning in between; Host, SNI and the certificate stay
those of the name. There is one pool of connections for each origin, since a connection that was
verified for one name must not serve another at the same address. Nothing of the process's
environment (proxies, .netrc) is used, and no cookie is kept. Listeners' `g.http` works through
this, and so do third-party APIs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from events.chain import CHAIN_HEADER
from listener_runtime.address_policy import IpAddress
from listener_runtime.errors import AnswerError, HostCallError, NotReachedError
from listener_runtime.http_request import Origin, OutgoingRequest

ADDRESSES_TRIED: Final = 3
_ORIGINS_KEPT: Final = 64
_CONNECT_TIMEOUT_S: Final = 5.0
_CONNECTIONS: Final = httpx.Limits(max_connections=32, max_keepalive_connections=8)


class Connections:
    """All that are open, by origin."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._lines: OrderedDict[Origin, _Line] = OrderedDict()

    @asynccontextmanager
    async def exchange(
        self,
        request: OutgoingRequest,
        addresses: Sequence[IpAddress],
        signed_chain: str | None = None,
    ) -> AsyncGenerator[httpx.Response]:
        """The response of the first address that takes a connection, its body still to be read.

        Raises NotReachedError where none does, HostCallError where it breaks off later.
        """
        line = await self._line(request.origin)
        line.in_flight += 1
        try:
            response = await _send(line.transport, request, addresses, signed_chain)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            line.in_flight -= 1

    async def close(self) -> None:
        """Close all connections."""
        while self._lines:
            _, line = self._lines.popitem()
            await line.transport.aclose()

    async def _line(self, origin: Origin) -> _Line:
        line = self._lines.get(origin)
        if line is None:
            if self._tls is None:
                self._tls = httpx.create_ssl_context(trust_env=False)
            line = _Line(
                httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, limits=_CONNECTIONS)
            )
            self._lines[origin] = line
        self._lines.move_to_end(origin)
        if len(self._lines) > _ORIGINS_KEPT:
            # A wildcard in the allow list lets a guest name any number of hosts.
            oldest = next((at for at, kept in self._lines.items() if not kept.in_flight), origin)
            if oldest != origin:
                await self._lines.pop(oldest).transport.aclose()
        return line


@dataclass(slots=True)
class _Line:
    """The connections to one origin."""

    transport: httpx.AsyncHTTPTransport
    in_flight: int = 0


async def resolve(origin: Origin) -> list[IpAddress]:
    """The addresses of a canonical host, in the resolver's order; raises NotReachedError."""
    try:
        return [ipaddress.ip_address(origin.host)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise NotReachedError(
            f"the name {origin.host} was not found: {error.strerror or error}"
        ) from error
    # A scope (fe80::1%eth0) stands only in link-local addresses, which the policy refuses anyway.
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


async def read_body(response: httpx.Response, limit: int, shown: object) -> bytes:
    """The whole body of a response, unpacked; `shown` names its address in errors.

    Raises AnswerError where it is larger than so many bytes or packed in a way that cannot be
    unpacked, HostCallError where it breaks off.
    """
    chunks: list[bytes] = []
    left = limit
    try:
        async for chunk in response.aiter_raw():
            left -= len(chunk)
            if left < 0:
                raise AnswerError(f"{shown} answered with more than {limit} bytes")
            chunks.append(chunk)
    except httpx.TransportError as error:
        raise HostCallError(
            f"{shown} broke off in the middle of its answer: {said(error)}"
        ) from error
    return _decoded(b"".join(chunks), response.headers.get("content-encoding", ""), limit, shown)


def _decoded(body: bytes, encoding: str, limit: int, shown: object) -> bytes:
    """Without the compression that some servers use unasked; never past the bound."""
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"} or not body:
        return body
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflate.decompress(body, limit)
    except zlib.error as error:
        raise AnswerError(f"the answer of {shown} is no {encoding}: {error}") from error
    if inflate.unconsumed_tail:
        raise AnswerError(f"{shown} answered with more than {limit} bytes once unpacked")
    return plain


async def _send(
    transport: httpx.AsyncHTTPTransport,
    request: OutgoingRequest,
    addresses: Sequence[IpAddress],
    signed_chain: str | None,
) -> httpx.Response:
    failure: httpx.TransportError | None = None
    for address in addresses:
        try:
            return await transport.handle_async_request(_pinned(request, address, signed_chain))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
        except httpx.TransportError as error:
            raise HostCallError(f"{request.url} failed: {said(error)}") from error
    raise NotReachedError(
        f"{request.origin.authority} was not reached: {said(failure)}"
    ) from failure


def _pinned(
    request: OutgoingRequest, address: IpAddress, signed_chain: str | None
) -> httpx.Request:
    headers = dict(request.headers)
    headers["host"] = request.origin.authority
    headers["accept-encoding"] = "identity"
    if signed_chain is not None:
        headers[CHAIN_HEADER] = signed_chain
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=[
            (name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()
        ],
        content=request.body,
        extensions={
            "sni_hostname": request.origin.host,
            "timeout": {"connect": _CONNECT_TIMEOUT_S},
        },
    )


def said(error: Exception | None) -> str:
    """What an error says, or which it is where it says nothing."""
    return str(error) or type(error).__name__
