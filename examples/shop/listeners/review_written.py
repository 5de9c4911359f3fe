# /// rowcast
# on = "db.docs.shop.reviews.*"
# ///
"""A review was written, changed or taken back: keep a history of it and pass the product on."""


async def main(event, g):
    review = event["after"] or event["before"] or {}
    history = g.db("docs").collection("review_history")
    await history.insert(
        {
            "event": event["id"],
            "op": event["op"],
            "review": review.get("_id"),
            "stars": review.get("stars"),
        }
    )
    if "product_id" in review:
        await g.emit("custom.review_written", {"product": review["product_id"]})
