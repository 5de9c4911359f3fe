# /// rowcast
# on = "db.shop.public.orders.updated"
# where = { after = { status = ["paid"] }, changed = ["status"] }
# ///
"""An order was paid: note it in order_audit and tell whoever else is interested."""


async def main(event, g):
    order, before = event["after"], event["before"]
    await g.db("shop").execute(
        "insert into order_audit (order_id, old_status, new_status, event_id)"
        " values ($1, $2, $3, $4) on conflict (event_id) do nothing",
        order["id"],
        before and before["status"],
        order["status"],
        event["id"],
    )
    await g.emit("custom.order_paid", {"order": order["id"], "total": order["total"]})
