"""A paid order's goods leave both databases once, and its customer is told once."""

from __future__ import annotations

import pytest
from pymongo import MongoClient
from websockets.sync.client import ClientConnection

from tests.examples.conftest import Scenarios
from tests.integration.live_installation import next_event, wait_until

pytestmark = pytest.mark.integration

ORDERS = 12


def left_in_mongo(scenarios: Scenarios) -> int:
    with MongoClient[dict[str, int]](scenarios.status().sources["docs"].dsn) as client:
        stock = client["shop"]["stock"].find_one({"_id": 2})
    assert stock is not None
    return stock["left"]


def sent(client: ClientConnection, field: str) -> dict[str, object]:
    """A field, which is an object, of the next event that a client is sent."""
    found = next_event(client)[field]
    assert isinstance(found, dict)
    return {**found}


def test_status_changes_reach_the_customer_and_both_stocks_once(scenarios: Scenarios) -> None:
    customer, product = "carol", 2
    scenarios.rows("update products set stock = 100 where id = %s", product)
    with MongoClient[dict[str, int]](scenarios.status().sources["docs"].dsn) as client:
        client["shop"]["stock"].update_one({"_id": product}, {"$set": {"left": 100}})
    made = scenarios.rows(
        "insert into orders (customer, product_id, quantity)"
        " select %s, %s, 2 from generate_series(1, %s) returning id",
        *(customer, product, ORDERS),
    )
    orders = sorted(int(str(order)) for (order,) in made)
    token = scenarios.token()
    row = {"pattern": "db.shop.public.orders.updated", "filter": {"customer": customer}}
    with (
        scenarios.websocket(row) as rows,
        scenarios.websocket({"channel": f"customer.{customer}"}) as news,
    ):
        over_http, by_sql = orders[:1], orders[1:]
        path = f"/rest/v1/orders?id=eq.{over_http[0]}"
        assert scenarios.call("PATCH", path, {"status": "paid"}, token).status_code == 204
        assert sent(rows, "after") == {
            "id": over_http[0],
            "customer": customer,
            "product_id": product,
            "quantity": 2,
            "status": "paid",
        }
        scenarios.wait_for_rows([(98,)], "select stock from products where id = %s", product)
        scenarios.rows("update orders set status = 'paid' where id = any(%s)", by_sql)
        # Somewhere among the runs, between the two databases or not.
        wait_until(
            lambda: (
                scenarios.rows("select 1 from products where stock < 98 and id = %s", product)
                or None
            ),
            "the first of many to be moved",
        )
        scenarios.kill_router()
        last = "Thank you, order {} is paid."
        told = [str(sent(news, "data")["line"]) for _ in orders]
        assert sorted(told) == sorted(last.format(order) for order in orders)
        expected = 100 - 2 * ORDERS
        scenarios.wait_for_rows([(expected,)], "select stock from products where id = %s", product)
        wait_until(lambda: left_in_mongo(scenarios) == expected or None, "MongoDB's stock to move")
        seen = [int(str(sent(rows, "after")["id"])) for _ in by_sql]
        assert sorted(seen) == by_sql
        # What comes last has nothing before it that came twice.
        scenarios.rows("update orders set status = 'sent' where id = %s", orders[0])
        assert sent(rows, "after")["status"] == "sent"
        assert sent(news, "data") == {"line": f"Order {orders[0]} is on its way."}
    assert left_in_mongo(scenarios) == expected
    scenarios.wait_for_rows([(expected,)], "select stock from products where id = %s", product)
