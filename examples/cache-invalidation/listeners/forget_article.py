# /// rowcast
# on = "db.shop.public.articles.*"
# retry = { attempts = 100, backoff_s = 0.5, max_s = 30 }
# ///
"""An article changed, whoever changed it: what is cached of it is wrong from now on."""


async def main(event, g):
    row = event["after"] or event["before"]
    if row is None:  # all were truncated
        return await g.cache.delete(prefix="article:")
    return await g.cache.delete(f"article:{row['id']}")
