"""A payment service: payment_server.py PORT. Its first two requests it answers with 503."""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

KEY = "example-payments-key"
charges = {}  # by Idempotency-Key: who asks again is given the charge that is there
failures = [503, 503]


async def charge(request):
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return JSONResponse({"message": "who are you?"}, 401)
    if failures:
        return JSONResponse({"message": "try again"}, failures.pop())
    key = request.headers["idempotency-key"]
    if key not in charges:
        charges[key] = {"id": f"ch_{len(charges) + 1}", **await request.json()}
        print("charged", charges[key], flush=True)
    return JSONResponse(charges[key], 201)


async def charged(_request):
    return JSONResponse([*charges.values()])


app = Starlette(
    routes=[
        Route("/charges", charge, methods=["POST"]),
        Route("/charges", charged, methods=["GET"]),
    ]
)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
