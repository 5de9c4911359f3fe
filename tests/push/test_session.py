"""Who may stay: tokens in the address, in a message, renewed, at their end, missing."""

from __future__ import annotations

import time

import pytest

from events.token import Role, make_token
from push.settings import PushSettings
from tests.push.push_bench import SECRET, Client, PushBench

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


def token(lifetime_s: float = 600, subject: str = "tester", role: Role = "anon") -> str:
    return make_token(SECRET, role, subject, lifetime_s, now=time.time())


async def refused(client: Client) -> str:
    """What the server says before it closes with 4401."""
    message = await client.answer("error")
    assert message["code"] == "token"
    assert "`rowcast token`" in str(message["message"])
    assert await client.close_code() == 4401
    return str(message["message"])


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
async def test_a_token_in_the_first_message_is_as_good_as_one_in_the_address(
    bench: PushBench, role: Role
) -> None:
    async with bench.serving() as server, server.socket("") as socket:
        client = Client(socket)
        await client.say({"op": "auth", "ref": 1, "token": token(role=role)})
        answer = await client.answer("authenticated")
        assert (answer["ref"], answer["role"], answer["subject"]) == (1, role, "tester")
        await client.register(pattern=bench.pattern)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (f"?token={token(-1)}", "expired"),
        ("?token=nonsense", "no token"),
        (f"?token={make_token('b' * 32, 'anon', 'x', 60, now=time.time())}", "another secret"),
    ],
)
async def test_a_token_that_is_not_accepted_is_answered_and_closes(
    bench: PushBench, query: str, said: str
) -> None:
    async with bench.serving() as server, server.socket(query) as socket:
        assert said in await refused(Client(socket))


async def test_who_shows_no_token_first_is_refused(bench: PushBench) -> None:
    async with bench.serving() as server, server.socket("") as socket:
        client = Client(socket)
        await client.say({"op": "register", "pattern": "**"})
        assert "found no token" in await refused(client)


async def test_who_says_nothing_is_refused_after_a_while(bench: PushBench) -> None:
    async with bench.serving(PushSettings(auth_s=0.1)) as server, server.socket("") as socket:
        assert "found no token" in await refused(Client(socket))


async def test_a_role_that_is_not_let_in_is_refused(bench: PushBench) -> None:
    settings = PushSettings(roles=("service_role",))
    async with bench.serving(settings) as server, server.client(role="anon") as client:
        assert "found the role anon" in await refused(client)


async def test_a_connection_is_warned_and_ends_with_its_token(bench: PushBench) -> None:
    async with bench.serving() as server, server.client(lifetime_s=2) as client:
        await client.register(pattern=bench.pattern)
        notice = await client.answer("expiring")
        assert "`rowcast token`" in str(notice["message"])
        assert "expired" in await refused(client)


async def test_a_new_token_before_the_end_keeps_the_connection(bench: PushBench) -> None:
    async with bench.serving() as server, server.socket(f"?token={token(2)}") as socket:
        client = Client(socket)
        registered = await client.register(pattern=bench.pattern)
        await client.answer("expiring")
        await client.say({"op": "auth", "token": token(4)})
        await client.answer("authenticated")
        written = await bench.write({"id": 1})
        assert (await client.event())["id"] == written
        assert client.events[0]["ids"] == [registered["id"]]
        # The end is that of the new token: the old one's goes by without a word.
        assert (await client.next())["op"] == "expiring"
        await refused(client)


@pytest.mark.parametrize(("subject", "role"), [("other", "anon"), ("tester", "service_role")])
async def test_a_connection_stays_with_whom_it_began(
    bench: PushBench, subject: str, role: Role
) -> None:
    async with bench.serving() as server, server.socket(f"?token={token()}") as socket:
        client = Client(socket)
        await client.say({"op": "auth", "token": token(subject=subject, role=role)})
        assert "as before" in await refused(client)


async def test_a_server_that_closes_asks_its_clients_to_come_back(bench: PushBench) -> None:
    async with bench.serving() as server, server.client() as client:
        await client.register(pattern=bench.pattern)
        server.stop.set()
        assert await client.close_code() == 1012
