"""The host call `api.request`: a third-party API, through our own HTTP service.

The service holds what all callers of an API share (its credential, its rate, its cache, its
circuit) and writes the event of each call; so a listener's call goes there, with a token that
lives for a moment, the run's chain, signed, and an Idempotency-Key that is the same at each retry
of the run. The guest sees neither token nor credential, and reaches nothing else of the service.
"""

from __future__ import annotations

import re
import time
from typing import Final
from urllib.parse import quote, unquote, urlencode, urlsplit

import httpx
import msgspec

from events.json_codec import JsonObject
from events.run import RunRequest
from events.token import make_token
from listener_runtime.address_policy import AddressPolicy
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps
from listener_runtime.http_calls import HttpCalls
from listener_runtime.http_request import RequestArguments, origin_of
from listener_runtime.own_service import OwnService

PREFIX: Final = "/third-party"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TOKEN_LIFETIME_S: Final = 60.0
_SAFE: Final = "/-._~!$&'()*+,;=:@%"


class ApiArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `api.request`."""

    api: str
    method: str
    path: str = ""
    params: dict[str, str | int | float | bool | list[str | int | float]] = {}
    headers: dict[str, str] = {}
    body: str | dict[str, str] | None = None
    json: object = msgspec.UNSET
    timeout_s: float | None = None


class ApiCalls:
    """What all runs share. `url` is where our HTTP service is, `secret` signs token and chain."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url.rstrip("/")
        self._secret = secret
        own: tuple[str, ...] = ()
        if url:
            origin = origin_of(httpx.URL(self._url))
            host = f"[{origin.host}]" if ":" in origin.host else origin.host
            own = (f"{host}:{origin.port}",)
        policy = AddressPolicy.parse(own, own)
        # Where the API redirects is the listener's to see; the token goes nowhere else.
        self._http = HttpCalls(policy, own=OwnService(own, secret), follow_redirects=False)

    async def request(self, arguments: ApiArguments, run: RunRequest, steps: Steps) -> JsonObject:
        """Carry one call out; raises HostCallError for whatever is refused or fails."""
        if not self._url:
            raise HostCallError("g.api: there is no HTTP service to call APIs through")
        token = make_token(
            self._secret,
            "service_role",
            f"listener:{run.listener}",
            _TOKEN_LIFETIME_S + run.timeout_s,
            now=time.time(),
        )
        given = {
            name: value
            for name, value in arguments.headers.items()
            if name.lower() not in ("authorization", "apikey")
        }
        return await self._http.request(
            RequestArguments(
                arguments.method,
                self._url + service_path(arguments),
                {**given, "authorization": f"Bearer {token}"},
                arguments.body,
                arguments.json,
                arguments.timeout_s,
            ),
            run,
            steps,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def service_path(arguments: ApiArguments) -> str:
    """Path and query of a call on our service; raises HostCallError where it leads elsewhere."""
    if not _NAME.fullmatch(arguments.api):
        raise HostCallError(
            f"g.api: found the name {arguments.api[:80]!r}, expected that of a third-party API"
        )
    path, _, query = arguments.path.partition("?")
    path = path if path.startswith("/") or not path else f"/{path}"
    # What a library between here and the service would fold could lead out of the API's place.
    if any(unquote(unquote(part)) in (".", "..") for part in re.split(r"[/\\;]|%2f|%5c", path)):
        raise HostCallError(f"g.api: found the path {path[:200]!r}, expected one without . and ..")
    pairs = [
        (name, str(one).lower() if isinstance(one, bool) else str(one))
        for name, value in arguments.params.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    place = f"{PREFIX}/{arguments.api}"
    whole = place + quote(path, safe=_SAFE)
    queries = [text for text in (quote(query, safe=_SAFE + "?[]"), urlencode(pairs)) if text]
    if queries:
        whole += "?" + "&".join(queries)
    found = httpx.URL(f"http://service{whole}").raw_path.decode()
    if not urlsplit(found).path.startswith(place + "/") and urlsplit(found).path != place:
        raise HostCallError(f"g.api: found the path {path[:200]!r}, expected one inside of the API")
    return whole
