"""Other people's servers, small and real: one that fails at first, a slow one, one with tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.loopback_server import LoopbackServer

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class ThirdPartyServer(LoopbackServer):
    """A server on loopback; `seen` is what it was asked, in order."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []
        self.counts: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.entered = asyncio.Event()
        app = Starlette(
            routes=[
                Route("/v1/echo", self._echo, methods=METHODS),
                Route("/v1/echo/{rest:path}", self._echo, methods=METHODS),
                Route("/v1/fails/{times:int}/{status:int}", self._fails, methods=METHODS),
                Route("/v1/slow", self._slow, methods=METHODS),
                Route("/v1/large", self._large),
                Route("/v1/counted", self._counted),
                Route("/v1/guarded", self._guarded, methods=METHODS),
                Route("/v1/redirect", self._redirect, methods=METHODS),
                Route("/token", self._token, methods=["POST"]),
                Route("/elsewhere", self._echo, methods=METHODS),
            ]
        )
        super().__init__(app)

    async def _said(self, request: Request) -> dict[str, object]:
        said: dict[str, object] = {
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "headers": dict(request.headers),
            "body": (await request.body()).decode(),
        }
        self.seen.append(said)
        return said

    async def _echo(self, request: Request) -> Response:
        said = await self._said(request)
        response = JSONResponse(said, int(request.query_params.get("status", "200")))
        response.headers["x-credential"] = request.headers.get("authorization", "none")
        response.raw_headers += [
            (b"set-cookie", b"session=1"),
            (b"connection", b"keep-alive, x-hop"),
            (b"x-hop", b"1"),
            (b"link", b'</v1/echo?page=2>; rel="next"'),
        ]
        return response

    async def _fails(self, request: Request) -> Response:
        await self._said(request)
        self.counts[request.url.path] += 1
        if self.counts[request.url.path] <= request.path_params["times"]:
            after = request.query_params.get("after")
            headers = {} if after is None else {"retry-after": after}
            return Response("not yet", request.path_params["status"], headers)
        return JSONResponse({"ok": True})

    async def _slow(self, request: Request) -> Response:
        await self._said(request)
        self.entered.set()
        await asyncio.sleep(60)
        return Response()

    async def _large(self, request: Request) -> Response:
        return Response(b"x" * int(request.query_params["size"]))

    async def _counted(self, request: Request) -> Response:
        self.counts["counted"] += 1
        headers: dict[str, str] = {}
        if "says" in request.query_params:
            headers["cache-control"] = request.query_params["says"]
        return JSONResponse(self.counts["counted"], headers=headers)

    async def _token(self, request: Request) -> Response:
        form = (await request.body()).decode()
        self.seen.append({"path": "/token", "body": form, "headers": dict(request.headers)})
        given = base64.b64encode(b"rowcast:client+s%26cret").decode()
        if request.headers.get("authorization") != f"Basic {given}":
            return JSONResponse({"error": "invalid_client"}, 401)
        self.tokens.append(f"token-number-{len(self.tokens) + 1}")
        return JSONResponse({"access_token": self.tokens[-1], "expires_in": 3600})

    async def _guarded(self, request: Request) -> Response:
        said = await self._said(request)
        valid = self.tokens and request.headers.get("authorization") == f"Bearer {self.tokens[-1]}"
        return JSONResponse(said, 200 if valid else 401)

    async def _redirect(self, request: Request) -> Response:
        await self._said(request)
        code = int(request.query_params.get("code", "302"))
        return RedirectResponse(request.query_params["to"], code)


def shown(body: bytes) -> dict[str, object]:
    """What the echo answered."""
    return json.loads(body)
