# /// rowcast
# on = "custom.order_paid"
# ///
"""Chained on order_paid: show the customer a receipt on every open page."""


async def main(event, g):
    order = event["data"]["order"]
    row = await g.db("shop").fetch_one(
        "select u.name, p.name as product, o.quantity, o.total from orders o"
        " left join users u on u.id = o.user_id left join products p on p.id = o.product_id"
        " where o.id = $1",
        order,
    )
    g.log("receipt", order=order, receipt=row)
    await g.push("orders", {"order": order, "receipt": row})
