"""The push service as a client meets it: real Kafka, real uvicorn, the websockets client."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition

from events.event_type import RowOperation
from events.json_codec import JsonObject
from events.topic import change_topic
from push.settings import PushSettings
from tests.push.push_bench import Client, PushBench

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
        assert (event["id"], event["after"]) == (created, {"id": 1, "status": "new"})

        await client.say({"op": "unregister", "ref": 9, "id": registered["id"]})
        unregistered = {"op": "unregistered", "ref": 9, "id": registered["id"]}
        assert await client.answer("unregistered") == unregistered
        async with server.client() as witness:
            await witness.register(pattern=bench.pattern)
            updated = await bench.write({"id": 1, "status": "old"})
            assert (await witness.event())["id"] == updated
        assert await client.settled() == [created]


async def test_key_and_filter_choose_rows_and_a_row_that_leaves_says_so(bench: PushBench) -> None:
    async with bench.serving() as server, server.client() as client, server.client() as witness:
        await witness.register(pattern=bench.pattern)
        seventh = (await client.register(pattern=bench.pattern, key={"id": 7}))["id"]
        paid = (await client.register(pattern=bench.pattern, filter={"status": ["paid"]}))["id"]
        new: JsonObject = {"id": 7, "status": "new"}
        done: JsonObject = {"id": 7, "status": "paid"}
        sent: JsonObject = {"id": 7, "status": "sent"}
        expected = [
            (await bench.write(new), [seventh], None),
            (await bench.write(done, new), [seventh, paid], None),
            (await bench.write(sent, done), [seventh, paid], [paid]),
            (await bench.write(None, sent), [seventh], None),
            (await bench.write({"id": 7}, operation=RowOperation.TRUNCATED), [seventh, paid], None),
        ]
        await bench.write({"id": 8, "status": "new"}, partition=0)
        await witness.wait_for_events(6)
        ids = await client.settled()
        got = [(message["ids"], message.get("left")) for message in client.events]
        assert list(zip(ids, *zip(*got, strict=True), strict=True)) == expected


async def test_messages_of_a_channel_reach_who_registered_for_it(bench: PushBench) -> None:
    async with bench.serving() as server, server.client() as client:
        registered = await client.register(channel="orders")
        assert list(cast("JsonObject", registered["positions"])) == [bench.topics.push]
        await bench.push("others", {"order": 1})
        await bench.push("orders", {"order": 2})
        event = await client.event()
        assert (event["type"], event["data"]) == ("push.orders", {"order": 2})


async def test_a_client_that_was_away_gets_exactly_what_it_missed(bench: PushBench) -> None:
    async with bench.serving() as server:
        async with server.client() as client:
            await client.register(pattern=bench.pattern)
            had = [await bench.write({"id": number}) for number in range(5)]
            assert sorted(await client.wait_for_events(5)) == sorted(had)
            positions = client.positions
        missed = [await bench.write({"id": number}) for number in range(20)]
        async with server.client() as client:
            registered = await client.register(positions, pattern=bench.pattern)
            assert (registered["live"], registered["complete"]) == (False, True)
            assert registered["positions"] == positions
            live = await client.answer("live")
            assert live["complete"] is True
            await client.wait_for_events(20)
            after = await bench.write({"id": 1})
            assert sorted(await client.wait_for_events(21)) == sorted([*missed, after])
            assert client.ids()[-1] == after


async def test_a_client_that_never_got_an_event_resumes_from_what_registered_told(
    bench: PushBench,
) -> None:
    await bench.write({"id": 1})
    async with bench.serving() as server:
        async with server.client() as client:
            await client.register(pattern=bench.pattern)
            positions = client.positions
        missed = await bench.write({"id": 1})
        async with server.client() as client:
            assert await client.resume(positions, pattern=bench.pattern)
            assert await client.wait_for_events(1) == [missed]
            assert await client.settled() == [missed]


async def test_who_has_everything_is_live_at_once_also_after_a_restart(bench: PushBench) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bench.cluster.bootstrap, transactional_id=uuid.uuid4().hex
    ) as producer:
        await producer.begin_transaction()
        for number in range(9):
            _, value = bench.change({"id": number})
            await producer.send(bench.orders, value, partition=number % 3)
        await producer.commit_transaction()
    async with bench.serving() as server, server.client() as client:
        await client.register({}, pattern=bench.pattern)
        assert (await client.wait_for_events(9))[-1]
        positions = client.positions
        assert positions == {bench.orders: [2, 2, 2]}
    async with bench.serving() as server, server.client() as client:
        registered = await client.register(positions, pattern=bench.pattern)
        assert (registered["live"], registered["complete"]) == (True, True)
        assert registered["positions"] == positions
        # Nor does the marker at the end of a transaction count for who begins here.
        assert (await client.register(pattern=bench.pattern))["positions"] == positions


async def test_resuming_while_rows_change_has_no_gap_and_no_repeat_and_keeps_the_order(
    bench: PushBench,
) -> None:
    written: list[str] = []
    enough = asyncio.Event()

    async def write() -> None:
        while not enough.is_set():
            written.append(await bench.write({"id": len(written) % 7}))

    async with bench.serving() as server:
        writing = asyncio.create_task(write())
        for resumed in range(6):
            async with server.client() as client:
                assert await client.resume({}, pattern=bench.pattern)
                await client.wait_for_events(len(client.events) + 20 * resumed)
        async with server.client() as client:
            assert await client.resume({}, pattern=bench.pattern)
            enough.set()
            await writing
            got = await client.wait_for_events(len(written))
            assert await client.settled() == got
    assert sorted(got) == sorted(written)
    by_partition: dict[object, list[object]] = {}
    for message in client.events:
        by_partition.setdefault(message["partition"], []).append(message["offset"])
    for offsets in by_partition.values():
        assert offsets == list(range(len(offsets)))


async def test_more_than_can_be_held_while_catching_up_is_caught_up_with_too(
    bench: PushBench,
) -> None:
    settings = PushSettings(held_bytes=500)
    written = [await bench.write({"id": number % 7}) for number in range(300)]
    async with bench.serving(settings) as server, server.client() as client:
        await client.say({"op": "register", "pattern": bench.pattern, "from": {}})
        written += [await bench.write({"id": number % 7}) for number in range(300)]
        got = await client.wait_for_events(len(written))
        assert await client.settled() == got
    assert sorted(got) == sorted(written)


async def test_where_retention_threw_something_away_the_answer_is_incomplete(
    bench: PushBench,
) -> None:
    written = [await bench.write({"id": 1}, partition=0) for _ in range(10)]
    await bench.delete_records({TopicPartition(bench.orders, 0): 6})
    async with bench.serving() as server:
        for had, complete, missed in ((5, True, 6), (4, False, 6), (8, True, 9), (-1, False, 6)):
            async with server.client() as client:
                positions = {bench.orders: [had, -1, -1]}
                registered = await client.register(positions, pattern=bench.pattern)
                assert registered["complete"] is complete, had
                live = await client.answer("live")
                assert live["complete"] is complete, had
                assert client.ids() == written[missed:]


async def test_positions_of_another_topic_of_the_same_name_are_incomplete(
    bench: PushBench,
) -> None:
    written = [await bench.write({"id": 1}, partition=0) for _ in range(3)]
    async with bench.serving() as server:
        for positions in ({bench.orders: [99, -1, -1]}, {bench.orders: [2, -1, -1, 4]}):
            async with server.client() as client:
                registered = await client.register(positions, pattern=bench.pattern)
                assert registered["complete"] is False
        async with server.client() as client:
            assert not await client.resume({bench.orders: [99]}, pattern=bench.pattern)
            assert client.ids() == written


async def test_a_position_that_another_server_process_told_is_gone_on_from_here(
    bench: PushBench,
) -> None:
    async with bench.serving() as server, server.client() as client:
        await client.register(pattern=bench.pattern)
        first = await bench.write({"id": 1}, partition=0)
        assert await client.wait_for_events(1) == [first]
        # A table made a moment ago, of which this process may not know yet.
        await bench.make_topics(change_topic(bench.source, "public", "fresh"))
        known, new = [await bench.write({"id": n}, table="fresh", partition=0) for n in (1, 2)]
        pattern = f"db.{bench.source}.public.fresh.*"
        positions = {change_topic(bench.source, "public", "fresh"): [0]}
        async with server.client() as other:
            registered = await other.register(positions, pattern=pattern)
            assert registered["complete"] is True
            await other.wait_for_events(1)
            assert await other.settled() == [new]
            assert known != new


async def test_aborted_transactions_are_never_seen_and_do_not_stop_what_follows(
    bench: PushBench,
) -> None:
    async with bench.serving() as server, server.client() as client, server.client() as late:
        await client.register(pattern=bench.pattern)
        committed: list[str] = []
        async with AIOKafkaProducer(
            bootstrap_servers=bench.cluster.bootstrap, transactional_id=uuid.uuid4().hex
        ) as producer:
            for number in range(6):
                event_id, value = bench.change({"id": number})
                await producer.begin_transaction()
                await producer.send_and_wait(bench.orders, value, partition=0)
                if number % 2:
                    await producer.commit_transaction()
                    committed.append(event_id)
                else:
                    await producer.abort_transaction()
        await client.wait_for_events(3)
        assert await client.settled() == committed
        assert await late.resume({}, pattern=bench.pattern)
        assert late.ids() == committed


async def test_a_slow_client_is_closed_with_try_again_later_and_misses_nothing(
    bench: PushBench,
) -> None:
    settings = PushSettings(outbox_bytes=256 * 1024)
    text = "x" * 50_000
    written: list[str] = []
    async with bench.serving(settings) as server:
        async with server.client(slow=True) as client, server.client() as quick:
            await client.register(pattern=bench.pattern)
            await quick.register(pattern=bench.pattern)
            # More than sockets on both sides hold, at the pace of a client that keeps up.
            for number in range(600):
                written.append(await bench.write({"id": number, "text": text}))
                await quick.event()
            assert await client.close_code() == 1013
            assert 0 < len(client.events) < len(written)
            had, positions = client.ids(), client.positions
            assert await quick.settled() == written
        async with server.client() as client:
            assert await client.resume(positions, pattern=bench.pattern)
            assert sorted(had + client.ids()) == sorted(written)


async def test_a_client_that_catches_up_slowly_is_not_closed_for_it(bench: PushBench) -> None:
    settings = PushSettings(outbox_bytes=64 * 1024)
    written = [await bench.write({"id": n, "text": "x" * 50_000}) for n in range(200)]
    async with bench.serving(settings) as server, server.client(slow=True) as client:
        assert await client.resume({}, pattern=bench.pattern)
        assert sorted(client.ids()) == sorted(written)


async def test_a_client_that_stops_reading_while_it_catches_up_gives_its_place_to_others(
    bench: PushBench,
) -> None:
    settings = PushSettings(outbox_bytes=64 * 1024, stalled_s=0.2, catch_ups=1)
    for number in range(600):
        await bench.write({"id": number, "text": "x" * 50_000})
    async with bench.serving(settings) as server, server.client(slow=True) as stuck:
        await stuck.register({}, pattern=bench.pattern)
        async with server.client() as other:
            assert await other.resume({}, pattern=bench.pattern)
            assert len(other.events) == 600
        assert await stuck.close_code() == 1013


async def test_a_table_made_later_is_followed_from_its_beginning(bench: PushBench) -> None:
    async with bench.serving() as server, server.client() as client:
        await client.register(pattern=f"db.{bench.source}.**")
        await bench.make_topics(change_topic(bench.source, "public", "later"))
        written = [await bench.write({"id": number}, table="later") for number in range(5)]
        assert sorted(await client.wait_for_events(5)) == sorted(written)


async def test_of_thousands_of_registrations_only_that_of_the_key_is_served(
    bench: PushBench,
) -> None:
    settings = PushSettings(registrations=10_000)
    async with bench.serving(settings) as server, server.client() as client:
        for number in range(5_000):
            await client.say({"op": "register", "pattern": bench.pattern, "key": {"id": number}})
        answers = [await client.answer("registered") for _ in range(5_000)]
        wanted = answers[4_321]["id"]
        await bench.write({"id": 100_000})
        written = await bench.write({"id": 4_321})
        event = await client.event()
        assert event["id"] == written
        assert client.events[-1]["ids"] == [wanted]


async def test_more_registrations_than_allowed_are_refused_and_the_connection_stays(
    bench: PushBench,
) -> None:
    async with (
        bench.serving(PushSettings(registrations=2)) as server,
        server.client() as client,
    ):
        first = await client.register(channel="a")
        await client.register(channel="b")
        await client.say({"op": "register", "ref": 3, "channel": "c"})
        refused = await client.answer("error")
        assert (refused["ref"], refused["code"]) == (3, "too_many")
        await client.say({"op": "unregister", "id": first["id"]})
        await client.answer("unregistered")
        assert (await client.register(channel="c"))["id"] == 3


async def test_pong_brings_positions_forward_where_no_event_does(bench: PushBench) -> None:
    async with bench.serving() as server, server.client() as client, server.client() as witness:
        await witness.register(pattern=bench.pattern)
        registered = await client.register(pattern=bench.pattern, key={"id": "never"})
        await bench.write({"id": 1}, partition=0)
        await witness.event()
        await client.say({"op": "ping", "ref": 1, "positions": True})
        pong = await client.answer("pong")
        assert pong["ids"] == [registered["id"]]
        assert pong["positions"] == {bench.orders: [0, -1, -1]}


async def test_every_malformed_message_is_answered_and_the_connection_stays(
    bench: PushBench,
) -> None:
    async with bench.serving() as server, server.client() as client:
        frames: list[str | bytes] = [
            "{",
            "\x00",
            "[" * 100_000,
            '{"op":"ping","ref":NaN}',
            b"\xff\x00",
            "x" * 300_000,
            '{"op":"unregister","id":77}',
            json.dumps({"op": "register", "channel": "a", "from": {"other.topic": [1]}}),
        ]
        codes: list[object] = []
        for frame in frames:
            await client.socket.send(frame)
            refused = await client.answer("error")
            assert "expected" in str(refused["message"])
            codes.append(refused["code"])
        assert codes == [
            "bad_json",
            "bad_json",
            "bad_json",
            "bad_json",
            "binary",
            "too_large",
            "unknown_id",
            "bad_field",
        ]
        assert await still_works(client)


async def still_works(client: Client) -> bool:
    await client.say({"op": "ping", "ref": "p"})
    return await client.next() == {"op": "pong", "ref": "p"}
