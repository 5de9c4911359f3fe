"""A third-party API as a definition says it: where, with which credential, for whom, how. Pure.

Secrets stand in it by name only; their values are the installation's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cached_property
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from api.body_policy import Bodies, BodyPolicy
from api.caller import role_may
from api.errors import ApiDefinitionError
from api.path_pattern import PathPattern
from events.kept_definition import VersionedDefinition
from events.token import Role

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
NEVER_SENT: Final = frozenset(
    (
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade"),
        *("te", "trailer", "expect", "proxy-authorization", "proxy-connection", "apikey"),
        *("proxy-authenticate", "accept-encoding", "authorization", "cookie", "rowcast-chain"),
    )
)
"""Headers that are no caller's to send: framing, hop-by-hop (RFC 9110, 7.6.1) and who they are."""


class HeaderCredential(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="header"
):
    """The secret in a header of its own, `prefix` before it."""

    header: str
    secret: str
    prefix: str = ""


class BearerCredential(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bearer"
):
    """`Authorization: Bearer` and the secret."""

    secret: str


class BasicCredential(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="basic"
):
    """`Authorization: Basic`; `password` names the secret, `username` is the name itself."""

    username: str
    password: str


class OAuth2Credential(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="oauth2"
):
    """OAuth2's client credentials (RFC 6749, 4.4); `client_secret` names the secret.

    `send` says how the client names itself: by Basic authentication or in the form.
    """

    token_url: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...] = ()
    audience: str = ""
    send: Literal["basic", "form"] = "basic"


Credential: TypeAlias = HeaderCredential | BearerCredential | BasicCredential | OAuth2Credential


class Retries(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`attempts` more times at most, waiting longer each time, anywhere up to the wait."""

    attempts: int = 2
    backoff_s: float = 0.2
    factor: float = 2.0
    max_s: float = 5.0


class RateLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token bucket, one for all callers or one for each."""

    per_s: float
    burst: float = 0.0
    by: Literal["all", "caller"] = "all"


class Caching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers to GET, kept so long at most; `per_caller` shares none of them."""

    ttl_s: float
    per_caller: bool = False


class CircuitBreaking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """After so many failures in a row nothing is sent for a while."""

    failures: int = 5
    pause_s: float = 5.0


class ThirdParty(
    VersionedDefinition, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True
):
    """One third-party API; see docs/third-party.md for each field."""

    base_url: str
    credential: Credential | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    forward_headers: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    paths: tuple[str, ...] = ("/**",)
    roles: tuple[Role, ...] = ()
    private: bool = False
    timeout_s: float = 10.0
    attempt_timeout_s: float | None = None
    response_kb: int = 5_120
    retry: Retries = Retries()
    rate_limit: RateLimit | None = None
    cache: Caching | None = None
    circuit: CircuitBreaking = CircuitBreaking()
    bodies: Bodies = "none"
    redact: tuple[str, ...] = ()
    body_kb: int = 16

    @property
    def kind(self) -> str:
        """What stands in the record's key."""
        return "third_party"

    @property
    def summary(self) -> str:
        """For a list of definitions."""
        return f"/third-party/{self.name} is {self.base_url}"

    def allows(self, role: Role) -> bool:
        """Whether a role may call it: what anon may, everybody may; service_role may all."""
        return role_may(role, self.roles)

    @cached_property
    def patterns(self) -> tuple[PathPattern, ...]:
        """The paths that may be called."""
        return tuple(PathPattern.parse(path) for path in self.paths)

    @cached_property
    def body_policy(self) -> BodyPolicy:
        """What of the bodies stands in events."""
        return BodyPolicy.parse(self.bodies, self.redact, self.body_kb)

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets it needs."""
        match self.credential:
            case HeaderCredential(secret=name) | BearerCredential(secret=name):
                return (name,)
            case BasicCredential(password=name) | OAuth2Credential(client_secret=name):
                return (name,)
            case None:
                return ()


def decode_third_party(value: bytes) -> ThirdParty:
    """From a record's value; raises ApiDefinitionError where it is none."""
    try:
        return _checked(msgspec.json.decode(value, type=ThirdParty))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiDefinitionError(f"not a third-party API: {error}") from error


def parse_third_party_file(place: str, text: str) -> ThirdParty:
    """The definition that a TOML file writes; `place` is its path.

    Raises ApiDefinitionError with what was found and expected; the caller names the place.
    """
    try:
        table: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ApiDefinitionError(f"not TOML: {error}") from error
    name = table.pop("third_party", None)
    for key in ("name", "version"):
        if key in table:
            raise ApiDefinitionError(
                f'found the key {key!r}, expected `third_party = "NAME"` alone to name it'
            )
    if not isinstance(name, str):
        raise ApiDefinitionError(f"found third_party = {name!r} in {place}, expected a name")
    try:
        return _checked(msgspec.convert({**table, "name": name}, ThirdParty))
    except msgspec.ValidationError as error:
        raise ApiDefinitionError(_explained(str(error))) from error


def _checked(found: ThirdParty) -> ThirdParty:
    problem = next(_problems(found), None)
    if problem is not None:
        raise ApiDefinitionError(problem)
    return found


def _problems(one: ThirdParty) -> Iterator[str]:
    if not _NAME.fullmatch(one.name):
        yield (
            f"found the name {one.name!r}, expected letters, digits, '_' and '-', 64 at "
            "most, a letter or digit first"
        )
    yield from _url_problems("base_url", one.base_url)
    if isinstance(one.credential, OAuth2Credential):
        yield from _url_problems("credential.token_url", one.credential.token_url)
    if isinstance(one.credential, BasicCredential) and ":" in one.credential.username:
        yield "found a colon in credential.username, which Basic authentication cannot say"
    for method in one.methods:
        if method not in METHODS:
            yield f"found the method {method!r}, expected one of {', '.join(METHODS)}"
    yield from _header_problems(one)
    for parse in (lambda: one.patterns, lambda: one.body_policy):
        try:
            parse()
        except ValueError as error:
            yield str(error)
    yield from _range_problems(one)


def _url_problems(field: str, url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        yield f"found {field} = {url!r}: {error}"
        return
    if parts.scheme not in ("http", "https") or not host:
        yield f"found {field} = {url!r}, expected https://host/path"
    if parts.username is not None or parts.query or parts.fragment or not url.isascii():
        yield (
            f"found {field} = {url!r}, expected one without user, query and fragment; a password "
            "belongs in [credential]"
        )
    if any(mark in url for mark in ("\\", "%", "/.", " ")):
        yield f"found {field} = {url!r}, expected a plain path"


def _header_problems(one: ThirdParty) -> Iterator[str]:
    for name, value in one.headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in NEVER_SENT:
            yield f"found the header {name!r} in [headers], expected one that may be set"
        if not _FIELD_VALUE.fullmatch(value):
            yield f"the header {name!r} in [headers] holds a character that headers cannot carry"
    own = one.credential.header.lower() if isinstance(one.credential, HeaderCredential) else ""
    for name in one.forward_headers:
        if not _TOKEN.fullmatch(name) or name.lower() in NEVER_SENT or name.lower() == own:
            yield (
                f"found the header {name!r} in forward_headers, expected one that callers may send"
            )
    if isinstance(one.credential, HeaderCredential):
        allowed = own == "authorization" or own not in NEVER_SENT
        if not _TOKEN.fullmatch(own) or not allowed:
            yield f"found credential.header = {one.credential.header!r}, expected a header's name"
        if not _FIELD_VALUE.fullmatch(one.credential.prefix):
            yield "credential.prefix holds a character that headers cannot carry"


def _range_problems(one: ThirdParty) -> Iterator[str]:
    ranges: list[tuple[str, float, float, float]] = [
        ("timeout_s", one.timeout_s, 0.01, 300),
        ("response_kb", one.response_kb, 1, 102_400),
        ("retry.attempts", one.retry.attempts, 0, 20),
        ("retry.backoff_s", one.retry.backoff_s, 0, 60),
        ("retry.factor", one.retry.factor, 1, 100),
        ("retry.max_s", one.retry.max_s, 0, 300),
        ("circuit.failures", one.circuit.failures, 1, 10_000),
        ("circuit.pause_s", one.circuit.pause_s, 0.01, 3_600),
    ]
    if one.attempt_timeout_s is not None:
        ranges.append(("attempt_timeout_s", one.attempt_timeout_s, 0.01, one.timeout_s))
    if one.rate_limit is not None:
        ranges.append(("rate_limit.per_s", one.rate_limit.per_s, 0.0001, 1_000_000))
        ranges.append(("rate_limit.burst", one.rate_limit.burst, 0, 1_000_000))
    if one.cache is not None:
        ranges.append(("cache.ttl_s", one.cache.ttl_s, 0.001, 31_536_000))
    for name, value, low, high in ranges:
        if not low <= value <= high:
            yield f"found {name} = {value}, expected {low:g} to {high:g}"


def _explained(message: str) -> str:
    match = _UNKNOWN.search(message)
    if match is None:
        return message
    own = ("name", "version")
    known = ", ".join(name for name in ThirdParty.__struct_fields__ if name not in own)
    place = message[match.end() :].strip(" -") or "at the top"
    return f"found the unknown key {match['field']!r} ({place}); at the top there are {known}"
