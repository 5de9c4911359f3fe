from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator
from typing import Self

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.settings import HostSettings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def echo(request: Request) -> Response:
    body = await request.body()
    said = {
        "method": request.method,
        "path": request.url.path,
        "query": request.url.query,
        "headers": dict(request.headers),
        "body": body.decode("latin-1"),
    }
    return Response(json.dumps(said), media_type="application/json")


async def redirect(request: Request) -> Response:
    code = int(request.query_params.get("code", "302"))
    return RedirectResponse(request.query_params["to"], code)


async def large(request: Request) -> Response:
    return Response(b"x" * int(request.query_params["size"]))


async def raw(_: Request) -> Response:
    return Response(b"\xff\x00", media_type="application/octet-stream")


async def never(_: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
APP = Starlette(
    routes=[
        Route("/echo", echo, methods=METHODS),
        Route("/redirect", redirect, methods=METHODS),
        Route("/large", large),
        Route("/raw", raw),
        Route("/never", never),
    ]
)


class Server:
    """A real HTTP server on loopback."""

    def __init__(self) -> None:
        config = uvicorn.Config(APP, port=0, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        assert self._task is not None
        await self._task


@pytest.fixture
async def server() -> AsyncGenerator[Server]:
    async with Server() as server:
        yield server


def request(event_id: str = "", timeout_s: float = 30.0) -> RunRequest:
    event = event_id or uuid.uuid4().hex
    chain = Chain("shop/0/1")
    return RunRequest(uuid.uuid4().hex, "second", "", b"{}", event, chain, timeout_s=timeout_s)


@pytest.fixture
async def host(server: Server) -> AsyncGenerator[HostCalls]:
    here = (f"localhost:{server.port}", f"127.0.0.1:{server.port}")
    host = HostCalls(HostSettings(http_allow=(*here, "other.example:80"), http_private=here))
    yield host
    await host.close()


@pytest.fixture
async def calls(host: HostCalls) -> AsyncGenerator[RunCalls]:
    calls = host.open(request())
    yield calls
    await calls.close()


async def http(calls: RunCalls, method: str, url: str, **args: JsonValue) -> JsonObject:
    answer = await calls.call("http.request", {"method": method, "url": url, **args})
    assert isinstance(answer, dict)
    return answer


def heard(answer: JsonObject) -> JsonObject:
    """What the echoing server heard."""
    assert answer["status"] == 200
    assert isinstance(answer["body"], str)
    return json.loads(answer["body"])


async def test_a_request_arrives_as_it_was_asked_for(calls: RunCalls, server: Server) -> None:
    url = f"http://localhost:{server.port}/echo?a=1#part"
    said = heard(await http(calls, "post", url, headers={"X-Own": "yes"}, json={"é": [1]}))
    assert said["method"] == "POST"
    assert said["query"] == "a=1"
    assert said["body"] == '{"é":[1]}'.encode().decode("latin-1")
    headers = said["headers"]
    assert isinstance(headers, dict)
    assert headers["host"] == f"localhost:{server.port}"
    assert headers["x-own"] == "yes"
    assert headers["content-type"] == "application/json"
    assert str(headers["idempotency-key"]).startswith("rc_")
    assert headers["user-agent"] == "rowcast"


async def test_what_is_no_text_comes_in_base64(calls: RunCalls, server: Server) -> None:
    answer = await http(calls, "GET", f"http://localhost:{server.port}/raw")
    assert answer["body"] == {"base64": "/wA="}


async def test_a_host_that_is_not_allowed_is_refused(calls: RunCalls, server: Server) -> None:
    for url in (f"http://[::1]:{server.port}/", "http://example.com/", "http://localhost:1/"):
        with pytest.raises(HostCallError, match="may not be called"):
            await http(calls, "GET", url)
