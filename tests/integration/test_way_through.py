"""From a row or document changed by a stock client to every effect that follows from it."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
from pymongo import MongoClient

from events.event import Event
from events.json_codec import JsonObject
from infra.artifacts import postgres_bin
from tests.integration.live_installation import LiveInstallation, next_event, wait_until

pytestmark = pytest.mark.integration


def new_order(live: LiveInstallation) -> int:
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        row = connection.execute(
            "insert into orders (user_id, product_id, total) values (1, 1, 12.30) returning id"
        ).fetchone()
    assert row is not None
    return int(row[0])


def is_change_of(event: Event, table: str, key: object, op: str) -> bool:
    body = event.body
    row = body.get("after") or body.get("before")
    if not isinstance(row, dict) or body.get("op") != op:
        return False
    return event.type.split(".")[3] == table and key in (row.get("id"), row.get("_id"))


def test_a_row_changed_with_psql_is_an_event_runs_listeners_and_reaches_a_client(
    live: LiveInstallation,
) -> None:
    order = new_order(live)
    dsn = live.status().sources["shop"].dsn
    registrations = (
        {"pattern": "db.shop.public.orders.*", "key": {"id": order}},
        {"channel": "orders"},
    )
    with live.websocket(*registrations) as client:
        statement = f"update orders set status = 'paid' where id = {order}"
        subprocess.run(
            (str(postgres_bin() / "psql"), dsn, "--quiet", "--command", statement), check=True
        )
        by_type: dict[str, JsonObject] = {}
        # The order's creation may come too, where the registration was quicker than capture.
        while not {"db.shop.public.orders.updated", "push.orders"} <= set(by_type):
            event = next_event(client)
            by_type[str(event["type"])] = event

    (change,) = live.wait_for_events(lambda event: is_change_of(event, "orders", order, "u"))
    assert change.type == "db.shop.public.orders.updated"
    assert change.body["changed"] == ["status"]
    before, after = change.body["before"], change.body["after"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert (before["status"], after["status"], after["total"]) == ("pending", "paid", "12.30")

    (emitted,) = live.wait_for_events(
        lambda event: (
            event.type == "custom.order_paid"
            and event.body["data"] == {"order": order, "total": "12.30"}
        )
    )
    assert emitted.chain is not None
    assert (emitted.chain.root, emitted.chain.path) == (change.id, ("order_paid",))

    def audit() -> tuple[object, ...] | None:
        with psycopg.connect(dsn) as connection:
            return connection.execute(
                "select old_status, new_status, event_id from order_audit where order_id = %s",
                (order,),
            ).fetchone()

    assert wait_until(audit, "the audit row") == ("pending", "paid", change.id)
    assert by_type["db.shop.public.orders.updated"]["id"] == change.id
    receipt = by_type["push.orders"]["data"]
    assert isinstance(receipt, dict)
    assert receipt["order"] == order


def test_a_document_changed_with_pymongo_is_an_event_runs_listeners_and_reaches_a_client(
    live: LiveInstallation,
) -> None:
    review = f"review-{live.port_base}"
    uri = live.status().sources["docs"].dsn
    registration = {"pattern": "db.docs.shop.reviews.*", "key": {"_id": review}}
    with MongoClient[dict[str, object]](uri) as mongo, live.websocket(registration) as client:
        reviews = mongo["shop"]["reviews"]
        reviews.insert_one({"_id": review, "product_id": 3, "stars": 2, "text": "Cracked."})
        reviews.update_one({"_id": review}, {"$set": {"stars": 4}})
        created, updated = next_event(client), next_event(client)

        assert (created["op"], updated["op"]) == ("c", "u")
        before, after = updated["before"], updated["after"]
        assert isinstance(before, dict)
        assert isinstance(after, dict)
        assert (before["stars"], after["stars"], updated["changed"]) == (2, 4, ["stars"])

        history = mongo["shop"]["review_history"]
        wait_until(
            lambda: history.find_one({"event": updated["id"], "stars": 4}), "the review's history"
        )

    def rating() -> bool | None:
        with psycopg.connect(live.status().sources["shop"].dsn) as connection:
            row = connection.execute("select rating from products where id = 3").fetchone()
        return True if row is not None and row[0] is not None and float(row[0]) == 4 else None

    wait_until(rating, "the product's rating, moved by the second listener")


def test_a_trigger_without_code_emits_from_a_template(live: LiveInstallation) -> None:
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        connection.execute("insert into products (name, price) values ('Tray', 14.00)")
    (listed,) = live.wait_for_events(
        lambda event: event.type == "custom.product_listed" and "Tray" in str(event.body["data"])
    )
    data = listed.body["data"]
    assert isinstance(data, dict)
    assert (data["name"], data["price"]) == ("Tray", "14.00")
