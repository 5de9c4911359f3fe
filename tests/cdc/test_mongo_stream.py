from __future__ import annotations

import json
import uuid
from typing import Any

import bson
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from cdc.mongo_extended_json import token_from_json
from cdc.mongo_stream import MongoStream, StreamRecord
from cdc.progress import MongoProgress, decode_progress
from events.topic import Topics

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - JSON taken apart by assertions
START = MongoProgress({"_data": "00"}, 0, 0, 0, deployment="rs0/1")
SESSION = uuid.UUID("4ac43e4e-b0be-4ce6-8941-4ce42029cc62")
CHAIN = {"root": "r", "path": ["a", "b"]}
NOW_MS = 1_795_395_486_570


def stream(progress: MongoProgress = START, largest_record_bytes: int = 10**6) -> MongoStream:
    return MongoStream("docs", Topics(), progress, largest_record_bytes=largest_record_bytes)


def event(
    operation: str,
    time: tuple[int, int] = (100, 1),
    *,
    token: str = "01",
    collection: str | None = "reviews",
    transaction: int | None = None,
    **more: object,
) -> bytes:
    """A change event as mongod 6.0.5 writes it."""
    parts: dict[str, object] = {
        "_id": {"_data": token},
        "operationType": operation,
        "clusterTime": Timestamp(*time),
        "collectionUUID": Binary.from_uuid(uuid.UUID(int=7)),
        "wallTime": DatetimeMS(1_795_395_486_562),
        "ns": {"db": "shop"} | ({} if collection is None else {"coll": collection}),
    }
    if transaction is not None:
        parts["lsid"] = {"id": Binary.from_uuid(SESSION), "uid": b"u" * 32}
        parts["txnNumber"] = Int64(transaction)
    return bson.encode(parts | more)


def insert(identity: object, time: tuple[int, int] = (100, 1), **more: object) -> bytes:
    document = {"documentKey": {"_id": identity}, "fullDocument": {"_id": identity, "a": 1}}
    return event("insert", time, **(document | more))  # pyright: ignore[reportArgumentType] - keywords checked at run time


def taken(state: MongoStream, data: bytes) -> StreamRecord:
    record = state.take(data, NOW_MS)
    assert record is not None
    return record


def value(record: StreamRecord) -> Json:
    body: Json = json.loads(record.value)
    return body


def test_an_insert_becomes_the_envelope_of_a_created_document() -> None:
    record = taken(stream(), insert(7, (0x6B03FFB7, 9)))
    assert record.topic == "docs.shop.reviews"
    assert record.key == b'{"_id":7}'
    assert record.headers == ()
    assert record.timestamp_ms == 1_795_395_486_562
    assert value(record) == {
        "id": "docs/6B03FFB700000009/1",
        "type": "db.docs.shop.reviews.created",
        "op": "c",
        "before": None,
        "after": {"_id": 7, "a": 1},
        "changed": None,
        "unavailable": [],
        "source": {
            "connector": "mongodb",
            "name": "docs",
            "db": "shop",
            "schema": "shop",
            "table": "reviews",
            "collection": "reviews",
            "snapshot": "false",
            "ts_ms": 1_795_395_486_562,
            "ord": 9,
        },
        "transaction": None,
        "ts_ms": NOW_MS,
    }


def update(description: dict[str, object], **images: object) -> bytes:
    return event("update", documentKey={"_id": 7}, updateDescription=description, **images)  # pyright: ignore[reportArgumentType] - keywords checked at run time


NOTHING: dict[str, object] = {"updatedFields": {}, "removedFields": [], "truncatedArrays": []}


def test_an_update_has_both_images_and_the_top_level_names_of_what_changed() -> None:
    body = value(
        taken(
            stream(),
            update(
                {
                    "updatedFields": {"a": 2, "x.y": 1, "x.z": 2},
                    "removedFields": ["gone", "x.w"],
                    "truncatedArrays": [{"field": "list.inner", "newSize": 2}],
                },
                fullDocument={"_id": 7, "a": 2},
                fullDocumentBeforeChange={"_id": 7, "a": 1},
            ),
        )
    )
    assert body["op"] == "u"
    assert body["type"] == "db.docs.shop.reviews.updated"
    assert body["before"] == {"_id": 7, "a": 1}
    assert body["after"] == {"_id": 7, "a": 2}
    assert body["changed"] == ["a", "x", "gone", "list"]
    assert body["unavailable"] == []


def test_an_update_without_images_tells_its_key_and_the_fields_set_in_full() -> None:
    body = value(
        taken(
            stream(),
            update(
                NOTHING | {"updatedFields": {"a": 2, "x.y": 1}},
                fullDocument=None,
                fullDocumentBeforeChange=None,
            ),
        )
    )
    assert body["before"] is None
    assert body["after"] == {"_id": 7, "a": 2}
    assert body["unavailable"] == ["*"]
    assert body["changed"] == ["a", "x"]


def test_a_dot_inside_a_fields_name_is_told_from_a_path_where_the_server_tells_it() -> None:
    body = value(
        taken(
            stream(),
            update(
                NOTHING
                | {
                    "updatedFields": {"a.b": 1, "c.d.0": 2},
                    "disambiguatedPaths": {"a.b": ["a.b"], "c.d.0": ["c.d", 0]},
                },
            ),
        )
    )
    assert body["changed"] == ["a.b", "c.d"]
    assert body["after"] == {"_id": 7, "a.b": 1}


def test_a_replaced_document_is_an_update_with_the_fields_that_differ() -> None:
    body = value(
        taken(
            stream(),
            event(
                "replace",
                documentKey={"_id": 7},
                fullDocumentBeforeChange={"_id": 7, "same": [1], "other": 1, "gone": 1},
                fullDocument={"_id": 7, "same": [1], "other": 1.0, "new": 1},
            ),
        )
    )
    assert (body["op"], body["changed"]) == ("u", ["other", "gone", "new"])


def test_a_replaced_document_without_its_pre_image_does_not_know_what_changed() -> None:
    data = event("replace", documentKey={"_id": 7}, fullDocument={"_id": 7, "a": 1})
    body = value(taken(stream(), data))
    assert (body["before"], body["after"], body["changed"]) == (None, {"_id": 7, "a": 1}, None)


def test_a_delete_has_the_document_before_or_at_least_its_key() -> None:
    key = {"documentKey": {"_id": 7}}
    whole = event("delete", fullDocumentBeforeChange={"_id": 7, "a": 1}, **key)  # pyright: ignore[reportArgumentType] - keywords checked at run time
    body = value(taken(stream(), whole))
    assert (body["op"], body["before"], body["after"]) == ("d", {"_id": 7, "a": 1}, None)
    body = value(taken(stream(), event("delete", **key)))  # pyright: ignore[reportArgumentType] - keywords checked at run time
    assert (body["before"], body["after"]) == ({"_id": 7}, None)


def test_what_is_too_large_for_kafka_is_told_by_its_key_alone() -> None:
    large = "x" * 2_000
    data = update(
        NOTHING | {"updatedFields": {"text": large}},
        fullDocument={"_id": 7, "text": large},
        fullDocumentBeforeChange={"_id": 7, "text": "small"},
    )
    body = value(taken(stream(largest_record_bytes=1_500), data))
    assert (body["before"], body["after"]) == (None, {"_id": 7})
    assert (body["unavailable"], body["changed"]) == (["*"], ["text"])
    inserted = insert(8, fullDocument={"_id": 8, "text": large})
    body = value(taken(stream(largest_record_bytes=1_500), inserted))
    assert (body["op"], body["after"], body["unavailable"]) == ("c", {"_id": 8}, ["*"])


def test_events_of_one_cluster_time_are_counted_and_a_new_time_begins_at_1() -> None:
    state = stream()
    ids = [
        value(taken(state, insert(number, time)))["id"]
        for number, time in enumerate([(100, 1), (100, 1), (100, 2), (101, 2), (101, 2)])
    ]
    assert [identity.rpartition("/")[2] for identity in ids] == ["1", "2", "1", "1", "2"]


def marker(time: tuple[int, int], transaction: int | None, chain: object = CHAIN) -> bytes:
    return event(
        "insert",
        time,
        collection="rowcast_chain",
        transaction=transaction,
        documentKey={"_id": 1},
        fullDocument={"_id": 1, "chain": chain},
    )


def test_a_marker_gives_its_chain_to_the_rest_of_its_transaction_only() -> None:
    state = stream()
    assert state.take(marker((100, 1), 5), NOW_MS) is None
    inside = [taken(state, insert(number, transaction=5)) for number in range(2)]
    after = taken(state, insert(9, (100, 2)))
    other = taken(state, insert(9, (100, 3), transaction=6))
    header = (("rowcast-chain", b'{"root":"r","path":["a","b"]}'),)
    assert [record.headers for record in inside] == [header, header]
    assert after.headers == ()
    assert other.headers == ()
    transaction = value(inside[1])["transaction"]
    assert transaction == {"id": f"{SESSION}:5", "total_order": 3}


def test_a_marker_outside_a_transaction_or_without_a_chain_changes_nothing() -> None:
    for lonely in (marker((100, 1), None), marker((100, 1), 5, "text"), marker((100, 1), 5, {})):
        state = stream()
        assert state.take(lonely, NOW_MS) is None
        assert taken(state, insert(1, transaction=5)).headers == ()


def test_system_collections_are_not_published() -> None:
    state = stream()
    assert state.take(insert(1, collection="system.views"), NOW_MS) is None
    assert state.take(event("create", collection="system.js"), NOW_MS) is None
    assert state.take(event("create", collection="rowcast_chain"), NOW_MS) is None
    assert state.created == []


def test_a_created_collection_is_a_schema_event_and_waits_for_its_images() -> None:
    state = stream()
    record = taken(state, event("create", operationDescription={"idIndex": {"v": 2}}))
    assert record.topic == "rowcast.schema"
    assert value(record) == {
        "id": "docs/0000006400000001/1",
        "type": "system.schema_changed",
        "data": {
            "connector": "mongodb",
            "source": "docs",
            "db": "shop",
            "collection": "reviews",
            "operation": "create",
            "description": {"idIndex": {"v": 2}},
        },
        "ts_ms": NOW_MS,
    }
    assert [str(namespace) for namespace in state.created] == ["shop.reviews"]


def test_a_collection_created_with_images_needs_no_more() -> None:
    state = stream()
    for enabled in (True, False):
        description = {"changeStreamPreAndPostImages": {"enabled": enabled}}
        taken(state, event("create", operationDescription=description))
    assert len(state.created) == 1


def test_a_dropped_database_and_a_renamed_collection_are_schema_events() -> None:
    state = stream()
    dropped = value(taken(state, event("dropDatabase", collection=None)))
    assert (dropped["data"]["operation"], dropped["data"]["collection"]) == ("dropDatabase", None)
    renamed = value(taken(state, event("rename", to={"db": "shop", "coll": "new"})))
    assert renamed["data"]["to"] == {"db": "shop", "coll": "new"}


def test_an_invalidate_event_is_told_and_its_token_kept() -> None:
    state = stream()
    assert state.take(event("invalidate", token="0F"), NOW_MS) is None
    assert state.invalidated
    assert state.progress.token == {"_data": "0F"}


def test_an_idle_servers_token_moves_the_progress_and_nothing_else() -> None:
    state = stream()
    taken(state, insert(1, (100, 1), token="01"))
    state.advance(bson.encode({"_data": "02"}))
    assert state.progress == MongoProgress({"_data": "02"}, 100, 1, 1, deployment="rs0/1")


def test_a_split_event_is_one_event_with_its_last_fragment() -> None:
    state = stream()
    head = bson.encode(
        bson.BSON(update(NOTHING, fullDocumentBeforeChange={"_id": 7, "a": 1})).decode()
        | {"splitEvent": {"fragment": 1, "of": 2}}
    )
    tail = {"_id": {"_data": "02"}, "splitEvent": {"fragment": 2, "of": 2}}
    rest = bson.encode(tail | {"fullDocument": {"_id": 7, "a": 2}})
    assert state.take(head, NOW_MS) is None
    state.advance(bson.encode({"_data": "01"}))
    assert state.progress == START
    body = value(taken(state, rest))
    assert (body["before"], body["after"]) == ({"_id": 7, "a": 1}, {"_id": 7, "a": 2})
    assert state.progress.token == {"_data": "02"}


def workload() -> list[bytes]:
    """Events of single writes and of transactions, some with a marker."""
    found: list[bytes] = []
    for number in range(12):
        time = (100 + number // 4, number % 4)
        if number % 3 == 0:
            if number % 2 == 0:
                found.append(marker(time, number))
            found += [insert(at, time, transaction=number) for at in range(number % 5 + 1)]
        else:
            found.append(insert(number, time))
    return [
        bson.encode(bson.BSON(data).decode() | {"_id": {"_data": f"{at:04X}"}})
        for at, data in enumerate(found)
    ]


@given(st.sets(st.integers(0, 40)))
def test_restarts_at_any_event_change_no_record(restarts: set[int]) -> None:
    events = workload()
    whole = stream()
    expected = [whole.take(data, NOW_MS) for data in events]
    state = stream()
    found: list[StreamRecord | None] = []
    for at, data in enumerate(events):
        if at in restarts:
            progress = decode_progress(state.progress.encode())
            assert isinstance(progress, MongoProgress)
            state = stream(progress)
        found.append(state.take(data, NOW_MS))
        assert token_from_json(state.progress.token) == bson.encode({"_data": f"{at:04X}"})
    assert found == expected
    ids = [value(record)["id"] for record in found if record is not None]
    assert len(set(ids)) == len(ids)
