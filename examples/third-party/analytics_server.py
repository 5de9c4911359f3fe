"""An analytics service: analytics_server.py PORT. GET /events lists what it was told."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

events = {}  # by Idempotency-Key: an event that comes again is the same event


async def tell(request):
    event = await request.json()
    events[request.headers["idempotency-key"]] = event
    print("event", event, flush=True)
    return JSONResponse({"events": len(events)}, 202)


async def told(_request):
    return JSONResponse([*events.values()])


app = Starlette(
    routes=[Route("/events", tell, methods=["POST"]), Route("/events", told, methods=["GET"])]
)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
