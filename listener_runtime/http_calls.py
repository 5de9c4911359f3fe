"""The host call `http.request`: to hosts on the allow list, redirects followed one by one.

Each is checked as the first, by its name and by the addresses that the name stands for; the
connections are those of `connections`.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Final

import httpx

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.address_policy import AddressPolicy
from listener_runtime.connections import ADDRESSES_TRIED, Connections, read_body, resolve, said
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps, idempotency_key
from listener_runtime.http_request import OutgoingRequest, RequestArguments, outgoing_request
from listener_runtime.own_service import OwnService

RESPONSE_BYTES_MAX: Final = 5 * 1024 * 1024
_REDIRECTS_MAX: Final = 5
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_ASK_AGAIN: Final = frozenset((408, 425, 429, 500, 502, 503, 504))


class HttpCalls:
    """What all runs share: the policy and the connections."""

    def __init__(
        self,
        policy: AddressPolicy,
        tls: ssl.SSLContext | None = None,
        own: OwnService | None = None,
        *,
        follow_redirects: bool = True,
    ) -> None:
        self._follow_redirects = follow_redirects
        self._policy = policy
        self._own = own or OwnService((), "")
        self._connections = Connections(tls)

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
        await self._connections.close()

    async def _in_time(
        self, request: OutgoingRequest, timeout_s: float | None, chain: Chain
    ) -> JsonObject:
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return await self._follow(request, chain)
        except TimeoutError as error:
            if not limit.expired():
                raise HostCallError(f"{request.url} failed: {said(error)}") from error
            raise HostCallError(f"{request.url} did not answer within {timeout_s} s") from error

    async def _follow(self, request: OutgoingRequest, chain: Chain) -> JsonObject:
        for _ in range(_REDIRECTS_MAX + 1):
            origin = request.origin
            self._policy.check_name(origin.host, origin.port)
            found = await resolve(origin)
            addresses = self._policy.usable(origin.host, origin.port, found)[:ADDRESSES_TRIED]
            signed = self._own.header(chain, origin.host, origin.port, addresses)
            async with self._connections.exchange(request, addresses, signed) as response:
                location = response.headers.get("location")
                redirects = self._follow_redirects and response.status_code in _REDIRECTS
                if not redirects or location is None:
                    return await _answer(request, response)
            request = request.redirected(response.status_code, location)
        raise HostCallError(f"found more than {_REDIRECTS_MAX} redirects, the last {request.url}")


async def _answer(request: OutgoingRequest, response: httpx.Response) -> JsonObject:
    body = await read_body(response, RESPONSE_BYTES_MAX, request.url)
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
