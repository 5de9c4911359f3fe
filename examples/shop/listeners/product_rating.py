# /// rowcast
# on = "custom.review_written"
# ///
"""Chained on review_written: a review in MongoDB moves a product's rating in PostgreSQL."""


async def main(event, g):
    product = event["data"]["product"]
    reviews = await g.db("docs").collection("reviews").find({"product_id": product})
    stars = [review["stars"] for review in reviews if isinstance(review.get("stars"), (int, float))]
    rating = round(sum(stars) / len(stars), 2) if stars else None
    await g.db("shop").execute(
        "update products set rating = $1::numeric where id = $2",
        None if rating is None else str(rating),
        product,
    )
    g.log("rating", product=product, rating=rating, reviews=len(stars))
