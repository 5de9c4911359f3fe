# /// rowcast
# on = "db.shop.public.orders.updated"
# where = { changed = ["status"] }
# ///
"""A status changed: a line for the customer's page."""

LINES = {
    "paid": "Thank you, order {id} is paid.",
    "sent": "Order {id} is on its way.",
    "delivered": "Order {id} has arrived.",
    "cancelled": "Order {id} is cancelled.",
}


async def main(event, g):
    order = event["after"]
    line = LINES.get(order["status"])
    if line:
        await g.push(f"customer.{order['customer']}", {"line": line.format(id=order["id"])})
