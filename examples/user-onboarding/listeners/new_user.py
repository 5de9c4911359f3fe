# /// rowcast
# on = "db.shop.public.users.created"
# ///
"""A user registered: a profile and a bonus, both or neither, then word to whoever is interested."""

WELCOME_POINTS = 100


async def main(event, g):
    user = event["after"]
    async with g.db("shop").transaction() as tx:
        await tx.execute(
            "insert into profiles (user_id, display_name) values ($1, $2)", user["id"], user["name"]
        )
        await tx.execute(
            "insert into bonuses (user_id, points, reason) values ($1, $2, 'welcome')",
            user["id"],
            WELCOME_POINTS,
        )
    await g.emit(
        "custom.user_welcomed",
        {"name": user["name"], "email": user["email"], "points": WELCOME_POINTS},
    )
