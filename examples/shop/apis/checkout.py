# /// rowcast
# api = "checkout"
# description = "Orders a product at its price, as the user that the token names"
# [schema]
# type = "object"
# required = ["user_id", "product_id"]
# additionalProperties = false
# properties.user_id = { type = "integer" }
# properties.product_id = { type = "integer" }
# properties.quantity = { type = "integer", minimum = 1, maximum = 100 }
# ///
async def main(request, g):
    asked = request["body"]
    quantity = asked.get("quantity", 1)
    shop = g.db("shop")
    product = await shop.fetch_one(
        "select name, price from products where id = $1", asked["product_id"]
    )
    if product is None:
        return {"status": 404, "body": {"message": f"there is no product {asked['product_id']}"}}
    total = round(float(product["price"]) * quantity, 2)
    order = await shop.fetch_one(
        "insert into orders (user_id, product_id, quantity, total) values ($1, $2, $3, $4)"
        " returning id",
        asked["user_id"],
        asked["product_id"],
        quantity,
        total,
    )
    await g.emit("custom.checkout", {"order": order["id"], "total": total})
    return {
        "status": 201,
        "body": {"order": order["id"], "product": product["name"], "total": total},
    }
