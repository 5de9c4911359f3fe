# /// rowcast
# on = "db.shop.public.checkouts.created"
# retry = { attempts = 100, backoff_s = 0.5, max_s = 30 }
# ///
"""Tell the analytics service of a payment, however long it is away: nobody waits for it."""


async def main(event, g):
    paid = event["after"]
    told = {"order": paid["order_id"], "amount": paid["amount"]}
    answer = await g.api("analytics").post("/events", json=told)
    answer.raise_for_status()
