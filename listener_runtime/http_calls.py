"""The host call `http.request`: to hosts on the allow list, at addresses that were checked.

A name is resolved here, once for each request, and the connection goes to the address that was
checked, so that a name cannot change its meaning in between; Host, SNI and the certificate stay
those of the name. Redirects are followed one by one, each checked as the first. There is one pool
of connections for each origin, since a connection that was verified for one name must not serve
another at the same address. Nothing of the process's environment (proxies, .netrc) is used, and
no cookie is kept.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from events.chain import CHAIN_HEADER, Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.address_policy import AddressPolicy, IpAddress
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps, idempotency_key
from listener_runtime.http_request import (
    Origin,
    OutgoingRequest,
    RequestArguments,
    outgoing_request,
)
from listener_runtime.own_service import OwnService

RESPONSE_BYTES_MAX: Final = 5 * 1024 * 1024
_REDIRECTS_MAX: Final = 5
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_ADDRESSES_TRIED: Final = 3
_ORIGINS_KEPT: Final = 64
_CONNECT_TIMEOUT_S: Final = 5.0
_ASK_AGAIN: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
_CONNECTIONS: Final = httpx.Limits(max_connections=32, max_keepalive_connections=8)


class HttpCalls:
    """What all runs share: the policy and the connections."""

    def __init__(
        self,
        policy: AddressPolicy,
        tls: ssl.SSLContext | None = None,
        own: OwnService | None = None,
    ) -> None:
        self._policy = policy
        self._own = own or OwnService((), "")
        self._tls = tls
        self._lines: OrderedDict[Origin, _Line] = OrderedDict()

    async def request(
        self, arguments: RequestArguments, run: RunRequest, steps: Steps
    ) -> JsonObject:
        """Carry one request out and follow its redirects.

        Raises HostCallError for whatever is refused or fails; the caller bounds its time.
        """
        request = outgoing_request(arguments).with_header("user-agent", "rowcast")
        chain = run.chain.extended(run.listener)
        if not request.has_effect:
            return await self._in_time(request, arguments.timeout_s, chain)
        body = base64.b64encode(request.body).decode()
        step = steps.take("http", request.method, str(request.url), body)
        key = idempotency_key(run.event_id, run.listener, step)
        request = request.with_header("idempotency-key", key)
        succeeded = False
        try:
            answer = await self._in_time(request, arguments.timeout_s, chain)
            succeeded = answer["status"] not in _ASK_AGAIN
        finally:
            if not succeeded:
                # Asking again in the same run must bear the same key: it is the same effect.
                steps.give_back(step)
        return answer

    async def close(self) -> None:
        """Close all connections."""
        while self._lines:
            _, line = self._lines.popitem()
            await line.transport.aclose()

    async def _in_time(
        self, request: OutgoingRequest, timeout_s: float | None, chain: Chain
    ) -> JsonObject:
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return await self._follow(request, chain)
        except TimeoutError as error:
            if not limit.expired():
                raise HostCallError(f"{request.url} failed: {_said(error)}") from error
            raise HostCallError(f"{request.url} did not answer within {timeout_s} s") from error

    async def _follow(self, request: OutgoingRequest, chain: Chain) -> JsonObject:
        for _ in range(_REDIRECTS_MAX + 1):
            origin = request.origin
            self._policy.check_name(origin.host, origin.port)
            found = await _resolve(origin)
            addresses = self._policy.usable(origin.host, origin.port, found)[:_ADDRESSES_TRIED]
            signed = self._own.header(chain, origin.host, origin.port, addresses)
            line = await self._line(origin)
            line.in_flight += 1
            try:
                response = await _send(line.transport, request, addresses, signed)
                try:
                    location = response.headers.get("location")
                    if response.status_code not in _REDIRECTS or location is None:
                        return await _answer(request, response)
                finally:
                    await response.aclose()
            finally:
                line.in_flight -= 1
            request = request.redirected(response.status_code, location)
        raise HostCallError(f"found more than {_REDIRECTS_MAX} redirects, the last {request.url}")

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


async def _resolve(origin: Origin) -> list[IpAddress]:
    """The addresses of a canonical host, in the resolver's order."""
    try:
        return [ipaddress.ip_address(origin.host)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM
        )
    except OSError as error:
        raise HostCallError(
            f"the name {origin.host} was not found: {error.strerror or error}"
        ) from error
    # A scope (fe80::1%eth0) stands only in link-local addresses, which the policy refuses anyway.
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


async def _send(
    transport: httpx.AsyncHTTPTransport,
    request: OutgoingRequest,
    addresses: Sequence[IpAddress],
    signed_chain: str | None,
) -> httpx.Response:
    """The response of the first address that takes a connection, its body still to be read."""
    failure: httpx.TransportError | None = None
    for address in addresses:
        try:
            return await transport.handle_async_request(_pinned(request, address, signed_chain))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
        except httpx.TransportError as error:
            raise HostCallError(f"{request.url} failed: {_said(error)}") from error
    raise HostCallError(
        f"{request.origin.authority} was not reached: {_said(failure)}"
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


async def _answer(request: OutgoingRequest, response: httpx.Response) -> JsonObject:
    chunks: list[bytes] = []
    left = RESPONSE_BYTES_MAX
    try:
        async for chunk in response.aiter_raw():
            left -= len(chunk)
            if left < 0:
                raise HostCallError(
                    f"{request.url} answered with more than {RESPONSE_BYTES_MAX} bytes"
                )
            chunks.append(chunk)
    except httpx.TransportError as error:
        raise HostCallError(
            f"{request.url} broke off in the middle of its answer: {_said(error)}"
        ) from error
    body = _decoded(b"".join(chunks), response.headers.get("content-encoding", ""), request)
    headers: JsonObject = {
        name: value
        for name, value in response.headers.items()
        if name not in {"content-encoding", "transfer-encoding", "connection", "keep-alive"}
    }
    return {"status": response.status_code, "headers": headers, "body": _body(body, response)}


def _body(body: bytes, response: httpx.Response) -> JsonValue:
    """Text where it is text in the encoding that it says, else base64."""
    try:
        return body.decode(response.charset_encoding or "utf-8")
    except (LookupError, ValueError):
        return {"base64": base64.b64encode(body).decode()}


def _decoded(body: bytes, encoding: str, request: OutgoingRequest) -> bytes:
    """Without the compression that some servers use unasked; never past the bound."""
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"} or not body:
        return body
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflate.decompress(body, RESPONSE_BYTES_MAX)
    except zlib.error as error:
        raise HostCallError(f"the answer of {request.url} is no {encoding}: {error}") from error
    if inflate.unconsumed_tail:
        raise HostCallError(
            f"{request.url} answered with more than {RESPONSE_BYTES_MAX} bytes once unpacked"
        )
    return plain


def _said(error: Exception | None) -> str:
    return str(error) or type(error).__name__
