# /// rowcast
# on = "db.shop.public.orders.updated"
# where = { before = { status = "pending" }, after = { status = "paid" } }
# ///
"""An order was paid: its goods leave the stock, in PostgreSQL and in the warehouse's MongoDB."""


async def main(event, g):
    order = event["after"]
    product, quantity = order["product_id"], order["quantity"]
    await g.db("shop").execute(
        "update products set stock = stock - $1 where id = $2", quantity, product
    )
    stock = g.db("docs").collection("stock")
    await stock.update({"_id": product}, {"$inc": {"left": -quantity}})
