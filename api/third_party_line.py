"""One call on a third-party API, from what is asked to what is answered.

`ThirdPartyLine` is one version of a definition in use: its credential, its rate, its circuit. It
sends, tries again where that does nothing twice, follows redirects that stay inside what the
definition allows, and gives the answer with the credential masked.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from api.circuit import Circuit
from api.credential import CredentialHolder, CredentialMissingError
from api.errors import ApiError
from api.forwarded_headers import HeaderList, header, returned
from api.path_pattern import read_path, write_path
from api.response_cache import CachedAnswer, ResponseCache, cache_key, fresh_s
from api.third_party_definition import ThirdParty
from api.token_bucket import TokenBuckets
from api.upstream import (
    AnswerRefusedError,
    Outbound,
    RefusedUpstreamError,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamTimeoutError,
)
from api.upstream_retry import NOT_ANSWERING, TRIED_AGAIN, backoff_s, may_repeat, retry_after_s
from events.chain import Chain

_log = logging.getLogger(__name__)

_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_REDIRECTS_MAX: Final = 3
_UNAUTHORISED: Final = 401


@dataclass(frozen=True, slots=True)
class PartyCall:
    """What is asked: `path` and `query` in the form in which they are sent.

    `caller` tells callers apart, None where nobody is known; `asked` is their Cache-Control;
    `trace` and `chain` go along and are no part of what the answer depends on.
    """

    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    caller: str | None
    asked: str = ""
    trace: str | None = None
    chain: Chain | None = None

    @property
    def has_key(self) -> bool:
        """Whether it bears an Idempotency-Key."""
        return any(name == "idempotency-key" and value for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class PartyAnswer:
    """What the caller is given."""

    status: int
    headers: HeaderList
    body: bytes


@dataclass(slots=True)
class PartyTrace:
    """What became of a call, for its event: how often it was sent, and the last status."""

    attempts: int = 0
    status: int | None = None
    cached: bool = False
    duration_ms: float = 0.0


class ThirdPartyLine:
    """One definition in use."""

    def __init__(
        self,
        definition: ThirdParty,
        secrets: Mapping[str, str],
        outbound: Outbound,
        cache: ResponseCache,
    ) -> None:
        self.definition = definition
        self._credential = CredentialHolder(definition, secrets, outbound)
        self._outbound = outbound
        self._cache = cache
        self._circuit = Circuit(definition.circuit.failures, definition.circuit.pause_s)
        limit = definition.rate_limit
        self._buckets = (
            None
            if limit is None
            else TokenBuckets(limit.per_s, max(1.0, limit.burst or math.ceil(limit.per_s)))
        )

    async def call(self, asked: PartyCall, trace: PartyTrace) -> PartyAnswer:
        """Carry a call out; raises ApiError where nothing of the other server's is answered."""
        caching = self.definition.cache
        key = None
        if caching is not None and asked.method == "GET":
            key = cache_key(
                api=self.definition.name,
                version=self.definition.version,
                url=self._url(asked),
                sent=asked.headers,
                asked=asked.asked,
                caller=asked.caller if caching.per_caller else "",
            )
        if key is not None and (kept := self._cache.get(key, time.monotonic())) is not None:
            trace.status, trace.cached = kept.status, True
            age = str(int(time.monotonic() - kept.kept_s))
            return PartyAnswer(kept.status, (*kept.headers, ("age", age)), kept.body)
        self._take_token(asked)
        begun_s = time.perf_counter()
        try:
            response = await self._answered(asked, trace)
        finally:
            trace.duration_ms = (time.perf_counter() - begun_s) * 1_000
        mask = self._credential.redaction
        headers = tuple((name, mask.text(value)) for name, value in returned(response.headers))
        answer = PartyAnswer(response.status, headers, mask.data(response.body))
        if key is not None and caching is not None:
            kept_s = fresh_s(response.status, response.headers, caching.ttl_s)
            if kept_s > 0:
                now_s = time.monotonic()
                shown = tuple(pair for pair in headers if pair[0] != "age")
                kept = CachedAnswer(answer.status, shown, answer.body, now_s, now_s + kept_s)
                self._cache.keep(key, kept)
        return answer

    def _url(self, asked: PartyCall) -> str:
        base = self.definition.base_url.rstrip("/") + asked.path
        return f"{base}?{asked.query}" if asked.query else base

    def _take_token(self, asked: PartyCall) -> None:
        limit = self.definition.rate_limit
        if limit is None or self._buckets is None:
            return
        whose = "" if limit.by == "all" else asked.caller or ""
        wait_s = self._buckets.take(whose, time.monotonic())
        if wait_s > 0:
            raise ApiError(
                429,
                "RC429",
                f"More calls on the third-party API {self.definition.name} than its rate allows: "
                f"{limit.per_s:g} in a second",
                hint="Repeat the call after the seconds that Retry-After says",
                headers=(("retry-after", str(math.ceil(wait_s))),),
            )

    async def _answered(self, asked: PartyCall, trace: PartyTrace) -> UpstreamResponse:
        limit = asyncio.timeout(self.definition.timeout_s)
        try:
            async with limit:
                return await self._tried(asked, trace, limit.when() or math.inf)
        except TimeoutError as error:
            if not limit.expired():
                raise
            self._circuit.failed(time.monotonic())
            raise self._failure(UpstreamTimeoutError("no answer", sent=True)) from error
        except UpstreamError as error:
            raise self._failure(error) from error
        except CredentialMissingError as error:
            _log.error(
                "the third-party API %s is not called: found no secret %s, expected it in "
                "[credentials] or [secrets] of rowcast.toml",
                self.definition.name,
                error,
            )
            raise ApiError(
                503,
                "RC503",
                f"The third-party API {self.definition.name} has no credential",
                hint="`rowcast doctor` names the secret that is missing",
            ) from error

    async def _tried(
        self, asked: PartyCall, trace: PartyTrace, deadline_s: float
    ) -> UpstreamResponse:
        repeatable = may_repeat(asked.method, asked.has_key)
        failures, renewed = 0, False
        self._check_circuit()
        while True:
            trace.attempts += 1
            found, credential = await self._attempt(asked)
            trace.status = found.status if isinstance(found, UpstreamResponse) else None
            if isinstance(found, UpstreamResponse):
                if found.status == _UNAUTHORISED and not renewed:
                    renewed = True
                    if self._credential.refused(credential):
                        continue
                if found.status not in TRIED_AGAIN:
                    return found
            failures += 1
            wait_s = self._wait_s(found, failures)
            in_time = asyncio.get_running_loop().time() + wait_s < deadline_s
            unsent = isinstance(found, UpstreamError) and not found.sent
            may = (repeatable or unsent) and failures <= self.definition.retry.attempts
            if may and in_time and self._circuit.wait_s(time.monotonic()) == 0:
                await asyncio.sleep(wait_s)
            elif isinstance(found, UpstreamResponse):
                return found
            else:
                raise found

    async def _attempt(
        self, asked: PartyCall
    ) -> tuple[UpstreamResponse | UpstreamError, HeaderList]:
        """What came of one attempt, and the credential that it was made with.

        Raises what another attempt does not mend.
        """
        credential: HeaderList = ()
        try:
            credential = await self._credential.headers()
            response = await self._sent(asked, credential)
        except AnswerRefusedError:
            self._circuit.succeeded()
            raise
        except RefusedUpstreamError:
            raise
        except UpstreamError as error:
            self._circuit.failed(time.monotonic())
            return error, credential
        if response.status in NOT_ANSWERING:
            self._circuit.failed(time.monotonic())
        else:
            self._circuit.succeeded()
        return response, credential

    def _wait_s(self, found: UpstreamResponse | UpstreamError, failures: int) -> float:
        chance = random.random()  # noqa: S311 - spreads callers, keeps no secret
        wait_s = backoff_s(self.definition.retry, failures, chance)
        came = isinstance(found, UpstreamResponse)
        asked = header(found.headers, "retry-after") if came else ""
        return max(wait_s, (retry_after_s(asked, time.time()) or 0.0) if asked else 0.0)

    async def _sent(self, asked: PartyCall, credential: HeaderList) -> UpstreamResponse:
        """One attempt and the redirects that it leads to."""
        limit = asyncio.timeout(self.definition.attempt_timeout_s)
        request = self._request(asked, credential)
        try:
            async with limit:
                for _ in range(_REDIRECTS_MAX):
                    response = await self._outbound.send(request)
                    further = self._redirected(request, response)
                    if further is None:
                        return response
                    request = further
                return await self._outbound.send(request)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UpstreamTimeoutError("no answer", sent=True) from error

    def _request(self, asked: PartyCall, credential: HeaderList) -> UpstreamRequest:
        one = self.definition
        headers = {"user-agent": "rowcast", **dict(asked.headers)}
        headers |= {name.lower(): value for name, value in one.headers.items()}
        if asked.trace is not None:
            headers["traceparent"] = asked.trace
        # The credential last: nothing that a caller sends may take its place.
        headers |= dict(credential)
        return UpstreamRequest(
            asked.method,
            self._url(asked),
            tuple(headers.items()),
            asked.body,
            one.response_kb * 1024,
            one.private,
            asked.chain,
        )

    def _redirected(
        self, request: UpstreamRequest, response: UpstreamResponse
    ) -> UpstreamRequest | None:
        """The request that a redirect leads to; None where it leads out of what is allowed.

        Such a redirect is the caller's to follow, who has no credential to lose.
        """
        location = header(response.headers, "location")
        if response.status not in _REDIRECTS or not location:
            return None
        try:
            target = urlsplit(urljoin(request.url, location))
            here = urlsplit(self.definition.base_url)
            same = (target.scheme, target.hostname, target.port or 0) == (
                here.scheme,
                here.hostname,
                here.port or 0,
            )
            base = here.path.rstrip("/")
            if not same or target.username is not None or not target.path.startswith(f"{base}/"):
                return None
            segments = read_path(target.path.removeprefix(base).encode("ascii"))
        except ValueError:
            return None
        method, body, headers = request.method, request.body, request.headers
        if (response.status == 303 and method != "HEAD") or (
            response.status in (301, 302) and method == "POST"
        ):
            method, body = "GET", b""
            headers = tuple(pair for pair in headers if pair[0] != "content-type")
        if not self.allows(method, segments):
            return None
        url = self.definition.base_url.rstrip("/") + write_path(segments)
        if target.query:
            url += f"?{target.query}"
        return replace(request, method=method, url=url, headers=headers, body=body)

    def allows(self, method: str, segments: tuple[str, ...]) -> bool:
        """Whether a method and a path are among those that may be called."""
        return method in self.definition.methods and self.allows_path(segments)

    def allows_path(self, segments: tuple[str, ...]) -> bool:
        """Whether a path is among those that may be called."""
        return any(pattern.matches(segments) for pattern in self.definition.patterns)

    def _check_circuit(self) -> None:
        wait_s = self._circuit.wait_s(time.monotonic())
        if wait_s > 0:
            raise ApiError(
                502,
                "RC502",
                f"The third-party API {self.definition.name} does not answer and is left alone "
                "for a while",
                details=f"{self.definition.circuit.failures} failures in a row",
                hint="Repeat the call after the seconds that Retry-After says",
                headers=(("retry-after", str(math.ceil(wait_s))),),
            )

    def _failure(self, error: UpstreamError) -> ApiError:
        """What the caller is told: no addresses and nothing that holds the credential."""
        name = self.definition.name
        said = self._credential.redaction.text(str(error))
        _log.warning("the third-party API %s: %s", name, said)
        if isinstance(error, UpstreamTimeoutError):
            details = "It may have been carried out" if error.sent else "Nothing was carried out"
            return ApiError(
                504,
                "RC504",
                f"The third-party API {name} did not answer in time",
                details=details,
                hint="Repeat the call with the same Idempotency-Key, or later",
            )
        if isinstance(error, RefusedUpstreamError):
            return ApiError(
                502,
                "RC502",
                f"The third-party API {name} lies on an address that may not be called",
                hint="Where that is meant, its definition says private = true; the HTTP service's "
                "log tells more",
            )
        if isinstance(error, AnswerRefusedError):
            return ApiError(502, "RC502", f"The third-party API {name} {said}")
        details = "It may have been carried out" if error.sent else "Nothing was carried out"
        return ApiError(
            502,
            "RC502",
            f"The third-party API {name} was not reached, or broke off",
            details=details,
            hint="Repeat the call later; the HTTP service's log tells more",
        )
