"""A program that knows nothing of events: it reads articles and caches them in Redis.

    python article_server.py PORT REDIS_PORT

GET /articles/1 answers with the article, and in the header X-Cache with where it was found.
"""

import os
import sys

import httpx
import uvicorn
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

PORT, REDIS_PORT = int(sys.argv[1]), int(sys.argv[2])
ROWS = os.environ.get("ROWCAST_HTTP", "http://127.0.0.1:8400") + "/rest/v1/articles"
KEPT_S = 3_600

redis = Redis(port=REDIS_PORT)
client = httpx.AsyncClient()


async def article(request):
    number = request.path_params["number"]
    key = f"rowcast:cache:default:article:{number}"  # where g.cache has `article:<number>`
    found = await redis.get(key)
    if found is not None:
        return Response(found, media_type="application/json", headers={"x-cache": "hit"})
    answer = await client.get(
        ROWS,
        params={"id": f"eq.{number}"},
        headers={"accept": "application/vnd.pgrst.object+json"},
    )
    if answer.is_success:
        await redis.set(key, answer.content, ex=KEPT_S)
    return Response(
        answer.content, answer.status_code, {"x-cache": "miss"}, media_type="application/json"
    )


app = Starlette(routes=[Route("/articles/{number:int}", article)])
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
