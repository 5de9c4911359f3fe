"""Calls on real small servers, without the HTTP side before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from api.errors import ApiError
from api.response_cache import ResponseCache
from api.third_party_definition import ThirdParty, parse_third_party_file
from api.third_party_line import PartyAnswer, PartyCall, PartyTrace, ThirdPartyLine
from listener_runtime.own_service import OwnService
from rowcast.outbound import PinnedOutbound
from tests.api.third_party_server import ThirdPartyServer, shown
from tests.port_base import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

SECRETS = {"KEY": 'a "secret" & key', "CLIENT": "client s&cret"}
QUICK = "[retry]\nattempts = 3\nbackoff_s = 0.01\n"


@pytest.fixture
async def server() -> AsyncGenerator[ThirdPartyServer]:
    async with ThirdPartyServer() as server:
        yield server


class Party:
    """One definition in use."""

    def __init__(self, url: str, toml: str = "", secrets: dict[str, str] = SECRETS) -> None:
        head = f'third_party = "pay"\nbase_url = "{url}/v1"\n'
        head += "" if "private" in toml else "private = true\n"
        self.definition: ThirdParty = parse_third_party_file("pay.toml", head + toml)
        self._outbound = PinnedOutbound(OwnService((), ""))
        self.cache = ResponseCache()
        self._line = ThirdPartyLine(self.definition, secrets, self._outbound, self.cache)
        self.trace = PartyTrace()

    async def call(
        self,
        path: str,
        query: str = "",
        method: str = "GET",
        body: bytes = b"",
        *,
        caller: str | None = "authenticated ada",
        **headers: str,
    ) -> PartyAnswer:
        self.trace = PartyTrace()
        sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        asked = PartyCall(method, path, query, sent, body, caller)
        return await self._line.call(asked, self.trace)

    async def refused(self, path: str, query: str = "", method: str = "GET") -> ApiError:
        with pytest.raises(ApiError) as caught:
            await self.call(path, query, method)
        return caught.value

    async def close(self) -> None:
        await self._outbound.close()


@pytest.mark.parametrize(
    ("credential", "sent"),
    [
        ('kind = "header"\nheader = "X-Token"\nprefix = "key "', 'key a "secret" & key'),
        ('kind = "bearer"', 'Bearer a "secret" & key'),
        ('kind = "basic"\nusername = "me"', "Basic bWU6YSAic2VjcmV0IiAmIGtleQ=="),
    ],
)
async def test_a_credential_is_sent_and_is_in_no_answer(
    server: ThirdPartyServer, credential: str, sent: str
) -> None:
    name = "password" if "basic" in credential else "secret"
    party = Party(server.url, f'[credential]\n{credential}\n{name} = "KEY"\n')
    answer = await party.call("/echo/a", "q=1", "POST", b"{}", idempotency_key="k")
    seen = server.seen[-1]
    headers = cast("dict[str, str]", seen["headers"])
    assert (seen["path"], seen["query"], seen["body"]) == ("/v1/echo/a", "q=1", "{}")
    assert headers["x-token" if "X-Token" in credential else "authorization"] == sent
    assert headers["idempotency-key"] == "k"
    told = f"{answer.headers}{answer.body.decode()}"
    assert "[secret]" in told
    assert not any(part in told for part in ("secret\\", "& key", "bWU6"))
    names = {key for key, _ in answer.headers}
    assert "link" in names
    assert not names & {"set-cookie", "x-hop", "connection", "content-length", "server"}
    await party.close()


async def test_what_fails_at_first_is_tried_again_where_that_does_nothing_twice(
    server: ThirdPartyServer,
) -> None:
    party = Party(server.url, QUICK)
    assert (await party.call("/fails/2/503")).status == 200
    assert party.trace.attempts == 3
    assert (await party.call("/fails/1/500", method="POST")).status == 500
    assert party.trace.attempts == 1
    assert (await party.call("/fails/2/502", method="POST", idempotency_key="k")).status == 200
    assert party.trace.attempts == 3
    keys = [cast("dict[str, str]", one["headers"]).get("idempotency-key") for one in server.seen]
    assert keys == [None, None, None, None, "k", "k", "k"]
    assert (await party.call("/fails/9/429")).status == 429
    assert party.trace.attempts == 4
    # What is to be waited for longer than the caller waits is answered as it is.
    answer = await party.call("/fails/8/503", "after=3600")
    assert (answer.status, party.trace.attempts) == (503, 1)
    assert ("retry-after", "3600") in answer.headers
    await party.close()


async def test_a_server_that_is_away_or_slow_is_a_502_or_504_and_then_left_alone() -> None:
    (port,) = free_ports(1)
    away = Party(f"http://127.0.0.1:{port}", QUICK + "[circuit]\nfailures = 4\npause_s = 30\n")
    gone = await away.refused("/echo", method="POST")
    assert (gone.status, gone.code, away.trace.attempts) == (502, "RC502", 4)
    assert str(port) not in f"{gone.body()}"
    left = await away.refused("/echo")
    assert (left.status, away.trace.attempts) == (502, 0)
    assert "retry-after" in dict(left.headers)
    await away.close()
    async with ThirdPartyServer() as server:
        slow = Party(server.url, "timeout_s = 0.3\n")
        late = await slow.refused("/slow", method="POST")
        assert (late.status, late.code, slow.trace.attempts) == (504, "RC504", 1)
        slow = Party(server.url, "timeout_s = 20\nattempt_timeout_s = 0.1\n" + QUICK)
        assert (await slow.refused("/slow")).status == 504
        assert slow.trace.attempts == 4
        await slow.close()


async def test_a_token_is_asked_for_once_and_anew_when_it_is_refused(
    server: ThirdPartyServer,
) -> None:
    oauth = f'[credential]\nkind = "oauth2"\ntoken_url = "{server.url}/token"\n'
    oauth += 'client_id = "rowcast"\nclient_secret = "CLIENT"\nscopes = ["read", "write"]\n'
    party = Party(server.url, oauth)
    answers = await asyncio.gather(*(party.call("/guarded", f"n={n}") for n in range(5)))
    assert {answer.status for answer in answers} == {200}
    assert len(server.tokens) == 1
    asked = server.seen[0]
    assert asked["body"] == "grant_type=client_credentials&scope=read+write"
    server.tokens.append("as if another had been issued: the first is over")
    answer = await party.call("/guarded", method="POST")
    assert (answer.status, party.trace.attempts) == (200, 2)
    assert "token-number" not in answer.body.decode()
    assert len(server.tokens) == 3
    await party.close()
    wrong = Party(server.url, oauth, {"CLIENT": "something else"})
    refused = await wrong.refused("/guarded")
    assert (refused.status, refused.code) == (502, "RC502")
    assert "something else" not in f"{refused.body()}"
    nothing = Party(server.url, oauth, {})
    assert (await nothing.refused("/guarded")).status == 503
    await wrong.close()


async def test_a_redirect_is_followed_only_inside_of_what_is_allowed(
    server: ThirdPartyServer,
) -> None:
    bearer = '[credential]\nkind = "bearer"\nsecret = "KEY"\n'
    party = Party(server.url, 'paths = ["/redirect", "/echo/**"]\n' + bearer)
    inside = await party.call("/redirect", "to=echo/there", "POST", b"x")
    assert (inside.status, shown(inside.body)["method"]) == (200, "GET")
    kept = await party.call("/redirect", f"code=307&to={server.url}/v1/echo/there", "POST", b"x")
    assert (shown(kept.body)["method"], shown(kept.body)["body"]) == ("POST", "x")
    async with ThirdPartyServer() as other:
        for target in (
            f"{other.url}/v1/echo",
            f"{server.url.replace('127.0.0.1', 'localhost')}/v1/echo",
            "/elsewhere",
            "/v1/guarded",
            "echo/../guarded",
            "echo/%2e%2e/guarded",
            "//evil.example/v1/echo",
            f"http://me@127.0.0.1:{server.port}/v1/echo",
            "http://[",
        ):
            answer = await party.call("/redirect", f"to={target.replace('%', '%25')}")
            assert answer.status == 302, target
        assert not other.seen
    assert {one["path"] for one in server.seen} == {"/v1/redirect", "/v1/echo/there"}
    await party.close()


async def test_rate_cache_and_size_are_bounded(server: ThirdPartyServer) -> None:
    limited = Party(server.url, "[rate_limit]\nper_s = 0.5\nburst = 2\n")
    for _ in range(2):
        await limited.call("/echo")
    over = await limited.refused("/echo")
    assert (over.status, over.code, dict(over.headers)) == (429, "RC429", {"retry-after": "2"})
    each = Party(server.url, '[rate_limit]\nper_s = 0.5\nburst = 1\nby = "caller"\n')
    for caller in ("authenticated ada", "authenticated bob"):
        assert (await each.call("/echo", caller=caller)).status == 200
    small = Party(server.url, "response_kb = 1\n")
    assert (await small.call("/large", "size=1024")).status == 200
    assert (await small.refused("/large", "size=1025")).status == 502
    public = Party(server.url, "private = false\n")
    refused = await public.refused("/echo")
    assert (refused.status, "127.0.0.1" in str(refused.body())) == (502, False)
    for party in (limited, each, small, public):
        await party.close()


async def test_answers_are_given_again_as_far_as_they_may_be(server: ThirdPartyServer) -> None:
    party = Party(server.url, "[cache]\nttl_s = 60\n")

    async def count(query: str = "", caller: str | None = "authenticated ada", **sent: str) -> int:
        answer = await party.call("/counted", query, "GET", b"", caller=caller, **sent)
        return int(answer.body)

    assert [await count(), await count(caller="authenticated bob")] == [1, 1]
    assert (party.trace.cached, party.trace.attempts) == (True, 0)
    assert await count(accept="text/csv") == 2
    assert await count("n=1") == 3
    for says in ("no-store", "private", "max-age=0", "no-cache"):
        assert await count(f"says={says}") < await count(f"says={says}")
    assert await count("says=max-age=60") == await count("says=max-age=60")
    assert await count(if_none_match='"1"') < await count(if_none_match='"1"')
    await party.close()
    party = Party(server.url, "[cache]\nttl_s = 60\nper_caller = true\n")
    ada = await count()
    assert await count() == ada
    assert await count(caller="authenticated bob") != ada
    assert await count(caller=None) != await count(caller=None)
    await party.close()
