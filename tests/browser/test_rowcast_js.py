"""The browser's client in a real Chromium, over a push service on a real Kafka."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka.structs import TopicPartition
from playwright.async_api import Page

from events.token import make_token
from tests.conftest import free_ports
from tests.push.push_bench import SECRET, PushBench

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

START = """
async ({ token, wanted }) => {
  const { connect } = await import("/static/rowcast.js");
  window.states = [];
  window.got = [];
  window.left = [];
  window.incomplete = [];
  const onState = (state) => states.push(state);
  window.rowcast = connect({ token: token ?? window.newToken, onState });
  const onEvent = (event, place) => {
    got.push(event.id);
    if (place.left) left.push(event.id);
  };
  await new Promise((resolve) => {
    const more = { onLive: resolve, onIncomplete: (what) => incomplete.push(what) };
    window.registration = rowcast.register(wanted, onEvent, more);
  });
}
"""


def token(lifetime_s: float = 600) -> str:
    return make_token(SECRET, "authenticated", "browser", lifetime_s, now=time.time())


async def start(page: Page, port: int, wanted: dict[str, object], **more: object) -> None:
    """Open a page of the server's and register there."""
    await page.goto(f"http://127.0.0.1:{port}/static/rowcast.js")
    await page.evaluate(START, {"token": token(), "wanted": wanted, **more})


async def got(page: Page, expected: list[str]) -> None:
    """Wait until so many events have come; they are those expected, in any order."""
    await page.wait_for_function(f"got.length >= {len(expected)}")
    assert sorted(await page.evaluate("got")) == sorted(expected)


async def test_it_goes_on_after_the_server_was_away_without_gap_or_repeat(
    page: Page, bench: PushBench
) -> None:
    (port,) = free_ports(1)
    async with bench.serving(port=port):
        await start(page, port, {"pattern": bench.pattern})
        written = [await bench.write({"id": number}) for number in range(5)]
        await got(page, written)
    await page.wait_for_function("states.at(-1) === 'waiting'")
    written += [await bench.write({"id": number}) for number in range(5)]
    async with bench.serving(port=port):
        await got(page, written)
        written.append(await bench.write({"id": 1}))
        await got(page, written)
        assert await page.evaluate("incomplete") == []


async def test_it_tells_when_something_is_lost(page: Page, bench: PushBench) -> None:
    (port,) = free_ports(1)
    async with bench.serving(port=port):
        await start(page, port, {"pattern": bench.pattern})
        first = await bench.write({"id": 1}, partition=0)
        await got(page, [first])
    missed = [await bench.write({"id": 1}, partition=0) for _ in range(3)]
    await bench.delete_records({TopicPartition(bench.orders, 0): 2})
    async with bench.serving(port=port):
        await got(page, [first, *missed[1:]])
        assert await page.evaluate("incomplete.map((what) => what.complete)") == [False, False]


async def test_rows_that_leave_a_filter_say_so_and_unregistering_ends_it(
    page: Page, bench: PushBench
) -> None:
    async with bench.serving() as server, server.client() as witness:
        await witness.register(pattern=bench.pattern)
        await start(page, server.port, {"pattern": bench.pattern, "filter": {"status": "new"}})
        created = await bench.write({"id": 1, "status": "new"})
        paid = await bench.write({"id": 1, "status": "paid"}, {"id": 1, "status": "new"})
        await got(page, [created, paid])
        assert await page.evaluate("left") == [paid]
        await page.evaluate("registration.unregister()")
        # Whoever registers after an unregistering is answered after it.
        await page.evaluate(
            "new Promise((onLive) => rowcast.register({ channel: 'x' }, () => {}, { onLive }))"
        )
        await bench.write({"id": 1, "status": "new"})
        await witness.wait_for_events(3)
        await page.evaluate(
            "new Promise((onLive) => rowcast.register({ channel: 'y' }, () => {}, { onLive }))"
        )
        assert await page.evaluate("got") == [created, paid]


async def test_it_renews_its_token_without_losing_the_connection(
    page: Page, bench: PushBench
) -> None:
    made: asyncio.Queue[str] = asyncio.Queue()

    def new_token() -> str:
        made.put_nowait(token(3))
        return token(3)

    await page.expose_function("newToken", new_token)  # pyright: ignore[reportUnknownMemberType]
    async with bench.serving() as server:
        await start(page, server.port, {"pattern": bench.pattern}, token=None)
        # Longer than the first token lives.
        first, *_, last = [await made.get() for _ in range(4)]
        assert first != last
        written = await bench.write({"id": 1})
        await got(page, [written])
        assert await page.evaluate("states") == ["connecting", "live"]


async def test_a_token_that_is_refused_is_not_tried_again_and_again(
    page: Page, bench: PushBench
) -> None:
    async with bench.serving() as server:
        await page.goto(f"http://127.0.0.1:{server.port}/static/rowcast.js")
        await page.evaluate(
            """
            async (token) => {
              const { connect } = await import("/static/rowcast.js");
              window.states = [];
              const onState = (state, detail) => states.push([state, detail]);
              connect({ token, onState });
            }
            """,
            token(-1),
        )
        await page.wait_for_function("states.length === 2")
        (connecting, _), (refused, why) = await page.evaluate("states")
        assert (connecting, refused) == ("connecting", "refused")
        assert "`rowcast token`" in why
