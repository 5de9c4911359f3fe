"""A guest's HTTP request, checked: pure, from the JSON of `http.request` to what is sent.

Nothing here connects. What a guest must not decide (framing, the host that is named, hop-by-hop
headers) is refused rather than dropped, so that nobody is left wondering.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import httpx
import msgspec

from events.chain import CHAIN_HEADER
from events.json_codec import encode
from listener_runtime.address_policy import canonical_host
from listener_runtime.errors import HostCallError

REQUEST_BYTES_MAX: Final = 1024 * 1024
_URL_LENGTH_MAX: Final = 8_192
_HEADERS_MAX: Final = 100
_METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_WITHOUT_EFFECT: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset(
    (
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"),
        *("te", "trailer", "expect", "proxy-authorization", "proxy-connection"),
        *("proxy-authenticate", "accept-encoding", CHAIN_HEADER),
    )
)
_SENT_ACROSS_ORIGINS: Final = frozenset(
    ("accept", "accept-language", "content-type", "user-agent", "idempotency-key")
)


class RequestArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `http.request`."""

    method: str
    url: str
    headers: dict[str, str] = {}
    body: str | dict[str, str] | None = None
    json: object = msgspec.UNSET
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a request is for: RFC 6454's origin, the host in its canonical form."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """As a Host header names it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.scheme == "https" else 80
        return name if self.port == usual else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request that may be sent; names of `headers` are in lower case."""

    method: str
    url: httpx.URL
    origin: Origin
    headers: Mapping[str, str]
    body: bytes

    @property
    def has_effect(self) -> bool:
        """Whether its receiver is expected to change something."""
        return self.method not in _WITHOUT_EFFECT

    def with_header(self, name: str, value: str) -> OutgoingRequest:
        """With a header unless the guest has set it."""
        return replace(self, headers={name: value, **self.headers})

    def redirected(self, status: int, location: str) -> OutgoingRequest:
        """The request that a redirect asks for (RFC 9110, section 15.4)."""
        try:
            url = self.url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise HostCallError(f"{self.url} redirects to no address: {error}") from error
        origin = origin_of(url)
        method, body, headers = self.method, self.body, dict(self.headers)
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", b""
            headers.pop("content-type", None)
        if origin != self.origin:
            headers = {
                name: value for name, value in headers.items() if name in _SENT_ACROSS_ORIGINS
            }
        return OutgoingRequest(method, url.copy_with(fragment=None), origin, headers, body)


def outgoing_request(arguments: RequestArguments) -> OutgoingRequest:
    """The request that the arguments describe; raises HostCallError where it may not be sent."""
    method = arguments.method.upper()
    if method not in _METHODS:
        raise HostCallError(
            f"found the method {arguments.method[:40]!r}, expected one of {', '.join(_METHODS)}"
        )
    if len(arguments.url) > _URL_LENGTH_MAX:
        raise HostCallError(
            f"found a URL of {len(arguments.url)} characters, expected {_URL_LENGTH_MAX} at most"
        )
    try:
        url = httpx.URL(arguments.url)
    except (httpx.InvalidURL, ValueError) as error:
        raise HostCallError(f"found {arguments.url[:200]!r}, expected a URL: {error}") from error
    headers = _headers(arguments.headers)
    body, content_type = _body(arguments)
    if content_type:
        headers.setdefault("content-type", content_type)
    return OutgoingRequest(method, url.copy_with(fragment=None), origin_of(url), headers, body)


def origin_of(url: httpx.URL) -> Origin:
    """Whom a URL is for; raises HostCallError where it is not for an HTTP server."""
    if url.scheme not in ("http", "https"):
        raise HostCallError(f"found {str(url)[:200]!r}, expected a URL with http:// or https://")
    if url.userinfo:
        raise HostCallError("found a password in the URL, expected it in an Authorization header")
    try:
        host = canonical_host(url.raw_host.decode("ascii"))
    except ValueError as error:
        raise HostCallError(f"found {str(url)[:200]!r}: {error}") from error
    port = url.port or (443 if url.scheme == "https" else 80)
    if port > 65_535:
        raise HostCallError(f"found the port {port}, expected 65535 at most")
    return Origin(url.scheme, host, port)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    if len(given) > _HEADERS_MAX:
        raise HostCallError(f"found {len(given)} headers, expected {_HEADERS_MAX} at most")
    headers: dict[str, str] = {}
    for name, value in given.items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise HostCallError(f"found the header name {name[:80]!r}, expected letters and dashes")
        if lower in _OURS:
            raise HostCallError(f"the header {name} is set by Rowcast; leave it out")
        if not _FIELD_VALUE.fullmatch(value):
            raise HostCallError(
                f"the header {name} holds a character that headers cannot carry, such as a line "
                "break; expected Latin-1 text in one line"
            )
        if lower in headers:
            raise HostCallError(f"found the header {name} twice, expected it once")
        headers[lower] = value.strip(" \t")
    return headers


def _body(arguments: RequestArguments) -> tuple[bytes, str]:
    """The bytes and their usual Content-Type."""
    given = arguments.body
    if arguments.json is not msgspec.UNSET:
        if given is not None:
            raise HostCallError("found both body and json, expected one of them")
        try:
            return _bounded(encode(arguments.json)), "application/json"
        except TypeError as error:
            raise HostCallError(f"json cannot be written as JSON: {error}") from error
    if given is None:
        return b"", ""
    if isinstance(given, str):
        try:
            return _bounded(given.encode()), "text/plain; charset=utf-8"
        except UnicodeEncodeError as error:
            raise HostCallError(f"the body cannot be written as UTF-8: {error}") from error
    if set(given) != {"base64"}:
        raise HostCallError('found an object as body, expected text or {"base64": "..."}')
    try:
        return _bounded(base64.b64decode(given["base64"], validate=True)), ""
    except (binascii.Error, ValueError) as error:
        raise HostCallError(f"the body is no base64: {error}") from error


def _bounded(body: bytes) -> bytes:
    if len(body) > REQUEST_BYTES_MAX:
        raise HostCallError(
            f"found a body of {len(body)} bytes, expected {REQUEST_BYTES_MAX} at most"
        )
    return body
