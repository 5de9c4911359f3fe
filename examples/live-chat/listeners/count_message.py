# /// rowcast
# on = "db.shop.public.messages.created"
# ///
"""Live totals: each message counts once, and the row that counts them is on every dashboard."""


async def main(event, g):
    await g.db("shop").execute(
        "insert into chat_totals (author, messages) values ($1, 1)"
        " on conflict (author) do update set messages = chat_totals.messages + 1",
        event["after"]["author"],
    )
