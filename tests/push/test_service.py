"""The push service as a client meets it: real Kafka, real uvicorn, the websockets client."""

from __future__ import annotations

import pytest

from tests.push.push_bench import PushBench

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_a_registration_gets_the_changes_of_its_pattern_until_it_is_unregistered(
    bench: PushBench,
) -> None:
    async with bench.serving() as server, server.client() as client:
        registered = await client.register(pattern=bench.pattern)
        assert (registered["live"], registered["complete"]) == (True, True)
        assert registered["positions"] == {bench.orders: [-1, -1, -1]}
        created = await bench.write({"id": 1, "status": "new"})
        event = await client.event()
        assert event["id"] == created
        assert event["after"] == {"id": 1, "status": "new"}

        await client.say({"op": "unregister", "ref": 9, "id": registered["id"]})
        assert await client.answer("unregistered") == {
            "op": "unregistered",
            "ref": 9,
            "id": registered["id"],
        }
        async with server.client() as witness:
            await witness.register(pattern=bench.pattern)
            updated = await bench.write({"id": 1, "status": "old"})
            assert (await witness.event())["id"] == updated
        assert await client.settled() == [created]


async def test_a_client_that_was_away_gets_exactly_what_it_missed(bench: PushBench) -> None:
    async with bench.serving() as server:
        async with server.client() as client:
            await client.register(pattern=bench.pattern)
            had = [await bench.write({"id": number}) for number in range(5)]
            assert sorted(await client.wait_for_events(5)) == sorted(had)
            positions = client.positions
        missed = [await bench.write({"id": number}) for number in range(20)]
        async with server.client() as client:
            registered = await client.register(pattern=bench.pattern, **{"from": positions})
            assert (registered["live"], registered["complete"]) == (False, True)
            assert registered["positions"] == positions
            live = await client.answer("live")
            assert live["complete"] is True
            assert sorted(client.ids()) == sorted(missed)
            after = await bench.write({"id": 1})
            await client.event()
            assert client.ids()[-1] == after
