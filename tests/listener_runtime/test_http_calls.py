from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from events.chain import Chain
from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from events.signed_chain import verify_chain
from listener_runtime.address_policy import AddressPolicy
from listener_runtime.errors import HostCallError
from listener_runtime.host_call_steps import Steps
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.http_calls import RESPONSE_BYTES_MAX, HttpCalls
from listener_runtime.http_request import RequestArguments
from listener_runtime.settings import HostSettings
from tests.conftest import free_ports
from tests.loopback_server import LoopbackServer

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


async def never(request: Request) -> Response:
    if request.method == "POST":
        request.app.state.entered.set()
    await asyncio.Event().wait()
    return Response()


async def broken(request: Request) -> Response:
    name = "idempotency-key"
    return Response(status_code=503, headers={f"x-{name}": request.headers[name]})


async def packed(request: Request) -> Response:
    body = gzip.compress(b"0" * int(request.query_params["size"]))
    return Response(body, headers={"content-encoding": "gzip"})


async def cookie(_: Request) -> Response:
    response = Response()
    response.raw_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    return response


async def breaks(_: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    return StreamingResponse(parts(), headers={"content-length": "10"})


async def loop(_: Request) -> Response:
    return RedirectResponse("/loop")


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
APP = Starlette(
    routes=[
        Route("/echo", echo, methods=METHODS),
        Route("/redirect", redirect, methods=METHODS),
        Route("/large", large),
        Route("/raw", raw),
        Route("/never", never, methods=METHODS),
        Route("/broken", broken, methods=METHODS),
        Route("/packed", packed),
        Route("/cookie", cookie),
        Route("/breaks", breaks),
        Route("/loop", loop),
    ]
)


class Server(LoopbackServer):
    """The application above; `entered` is set once it is asked what it never answers."""

    def __init__(self) -> None:
        self.entered = APP.state.entered = asyncio.Event()
        super().__init__(APP)


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


async def test_the_key_of_an_effect_is_that_of_its_retry_and_of_no_other(
    host: HostCalls, server: Server
) -> None:
    url = f"http://localhost:{server.port}/echo"

    async def keys(event_id: str) -> list[JsonValue]:
        calls = host.open(request(event_id))
        said = [heard(await http(calls, "POST", url, body=body)) for body in ("a", "b", "a")]
        await calls.close()
        return [
            headers["idempotency-key"]
            for each in said
            if isinstance(headers := each["headers"], dict)
        ]

    first, retry, other = await keys("event"), await keys("event"), await keys("other")
    assert first == retry
    assert len({str(key) for key in first + other}) == 6


async def test_a_request_that_failed_is_asked_again_under_the_same_key(
    calls: RunCalls, server: Server
) -> None:
    key = "idempotency-key"
    seen: list[str] = []
    for _ in range(2):
        answer = await http(calls, "POST", f"http://localhost:{server.port}/broken", body="x")
        assert answer["status"] == 503
        assert isinstance(answer["headers"], dict)
        seen.append(str(answer["headers"][f"x-{key}"]))
    assert seen[0] == seen[1]


async def test_a_key_that_the_listener_sets_is_kept_and_reads_have_none(
    calls: RunCalls, server: Server
) -> None:
    url = f"http://localhost:{server.port}/echo"
    said = heard(await http(calls, "POST", url, headers={"Idempotency-Key": "mine"}))
    assert isinstance(said["headers"], dict)
    assert said["headers"]["idempotency-key"] == "mine"
    said = heard(await http(calls, "GET", url))
    assert isinstance(said["headers"], dict)
    assert "idempotency-key" not in said["headers"]


async def test_redirects_are_followed_and_lose_their_body_where_they_must(
    calls: RunCalls, server: Server
) -> None:
    base = f"http://localhost:{server.port}"
    for code, method, body in ((302, "GET", ""), (303, "GET", ""), (307, "POST", "x")):
        url = f"{base}/redirect?code={code}&to=/echo"
        said = heard(await http(calls, "POST", url, body="x", headers={"Authorization": "secret"}))
        assert (said["method"], said["body"]) == (method, body)
        assert isinstance(said["headers"], dict)
        assert said["headers"]["authorization"] == "secret"


async def test_credentials_do_not_cross_to_another_origin(calls: RunCalls, server: Server) -> None:
    url = f"http://localhost:{server.port}/redirect?to=http://127.0.0.1:{server.port}/echo"
    secret: JsonObject = {"Authorization": "x", "Cookie": "x", "X-Api-Key": "x", "Accept": "a/b"}
    said = heard(await http(calls, "GET", url, headers=secret))
    headers = said["headers"]
    assert isinstance(headers, dict)
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["accept"] == "a/b"
    assert not {"authorization", "cookie", "x-api-key"} & set(headers)


async def test_a_redirect_is_checked_as_the_first_request_is(
    calls: RunCalls, server: Server
) -> None:
    base = f"http://localhost:{server.port}/redirect?to="
    for to, said in (
        ("http://169.254.169.254/latest", "169.254.169.254:80 may not be called"),
        (f"http://2130706433:{server.port}/", "is a number"),
        (f"http://[::ffff:127.0.0.1]:{server.port}/", "may not be called"),
        ("file:///etc/passwd", "expected a URL with http"),
        (f"http://user:pw@localhost:{server.port}/", "found a password in the URL"),
    ):
        with pytest.raises(HostCallError) as raised:
            await http(calls, "GET", base + to)
        assert said in str(raised.value)


async def test_redirects_have_an_end(calls: RunCalls, server: Server) -> None:
    with pytest.raises(HostCallError, match="more than 5 redirects"):
        await http(calls, "GET", f"http://localhost:{server.port}/loop")


async def test_a_name_that_lies_on_a_private_address_is_refused(
    calls: RunCalls, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    Resolver(monkeypatch, ["10.1.2.3", "127.0.0.1", "::1"])
    with pytest.raises(HostCallError, match=r"lies on 10\.1\.2\.3, .* which is not public"):
        await http(calls, "GET", "http://other.example/")
    del server


class Resolver:
    """A resolver that gives these addresses for every name, and counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
        self.asked: list[str] = []

        async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            self.asked.append(host)
            return [(2, 1, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"api.example:{server.port}"
    host = HostCalls(HostSettings(http_allow=(name,), http_private=(name,)))
    resolver = Resolver(monkeypatch, ["127.0.0.1"])
    calls = host.open(request())
    said = heard(await http(calls, "GET", f"http://{name}/echo"))
    assert isinstance(said["headers"], dict)
    assert said["headers"]["host"] == name
    assert resolver.asked == ["api.example"]
    await calls.close()
    await host.close()


async def test_another_address_is_tried_where_one_takes_no_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"api.example:{server.port}"
    host = HostCalls(HostSettings(http_allow=(name,), http_private=(name,)))
    Resolver(monkeypatch, ["127.0.0.77", "127.0.0.1"])
    calls = host.open(request())
    heard(await http(calls, "GET", f"http://{name}/echo"))
    await calls.close()
    await host.close()


async def test_answers_are_bounded_packed_or_not(calls: RunCalls, server: Server) -> None:
    base = f"http://localhost:{server.port}"
    answer = await http(calls, "GET", f"{base}/large?size={RESPONSE_BYTES_MAX}")
    assert isinstance(answer["body"], str)
    assert len(answer["body"]) == RESPONSE_BYTES_MAX
    for path in (f"large?size={RESPONSE_BYTES_MAX + 1}", "packed?size=50000000"):
        with pytest.raises(HostCallError, match=f"more than {RESPONSE_BYTES_MAX} bytes"):
            await http(calls, "GET", f"{base}/{path}")
    answer = await http(calls, "GET", f"{base}/packed?size=10")
    assert answer["body"] == "0000000000"
    assert isinstance(answer["headers"], dict)
    assert "content-encoding" not in answer["headers"]


async def test_the_environment_and_earlier_answers_are_not_used(
    calls: RunCalls, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    base = f"http://localhost:{server.port}"
    answer = await http(calls, "GET", f"{base}/cookie")
    assert isinstance(answer["headers"], dict)
    assert answer["headers"]["set-cookie"] == "a=1, b=2"
    said = heard(await http(calls, "GET", f"{base}/echo"))
    assert isinstance(said["headers"], dict)
    assert "cookie" not in said["headers"]


async def test_a_request_ends_in_its_time_or_with_its_run(host: HostCalls, server: Server) -> None:
    url = f"http://localhost:{server.port}/never"
    calls = host.open(request())
    with pytest.raises(HostCallError, match=r"did not answer within 0\.05 s"):
        await http(calls, "GET", url, timeout_s=0.05)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(failure(http(calls, "POST", url)))
        await server.entered.wait()
        await calls.close()
    assert waiting.result() == "the run has ended"


async def failure(call: Awaitable[JsonObject]) -> str:
    with pytest.raises(HostCallError) as raised:
        await call
    return str(raised.value)


async def test_a_server_that_is_away_or_breaks_off_is_said(calls: RunCalls, server: Server) -> None:
    (port,) = free_ports(1)
    here = f"localhost:{port}"
    host = HostCalls(HostSettings(http_allow=(here,), http_private=(here,)))
    other = host.open(request())
    with pytest.raises(HostCallError, match=f"{here} was not reached"):
        await http(other, "GET", f"http://{here}/")
    await other.close()
    await host.close()
    with pytest.raises(HostCallError, match="broke off in the middle"):
        await http(calls, "GET", f"http://localhost:{server.port}/breaks")
    heard(await http(calls, "GET", f"http://localhost:{server.port}/echo"))


REFUSED: list[tuple[JsonObject, str]] = [
    ({"headers": {"X-A": "b\r\nX-Injected: 1"}}, "line break"),
    ({"headers": {"X-A": "b\x00"}}, "line break"),
    ({"headers": {"X-A": "\u20ac"}}, "Latin-1"),
    ({"headers": {"X-A\r\nX-B": "b"}}, "header name"),
    ({"headers": {"": "b"}}, "header name"),
    ({"headers": {"host": "other.example"}}, "set by Rowcast"),
    ({"headers": {"Content-Length": "5"}}, "set by Rowcast"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, "set by Rowcast"),
    ({"headers": {"A": "1", "a": "2"}}, "twice"),
    ({"method": "CONNECT"}, "the method 'CONNECT'"),
    ({"method": "GET / HTTP/1.1\r\nX: y\r\n\r\n"}, "the method"),
    ({"url": "gopher://localhost/"}, "expected a URL with http"),
    ({"url": "localhost:80/"}, "expected a URL"),
    ({"url": "http://"}, "no host name"),
    ({"url": "http://localhost:99999/"}, "65535"),
    ({"url": "http://a\r\nb/"}, "expected a URL"),
    ({"url": "http://" + "x" * 9000}, "8192 at most"),
    ({"url": "http://0x7f.0.0.1/"}, "is a number"),
    ({"url": "http://017700000001/"}, "is a number"),
    ({"url": "http://127.1/"}, "is a number"),
    ({"url": "http://[fe80::1%25lo]/"}, "%25lo"),
    ({"body": "x" * (1024 * 1024 + 1)}, "1048576 at most"),
    ({"body": "x", "json": 1}, "both body and json"),
    ({"body": {"base64": "?"}}, "no base64"),
    ({"body": {"hex": "00"}}, '{"base64": "..."}'),
    ({"body": 5}, "body"),
    ({"timeout_s": "long"}, "timeout_s"),
    ({"verify": False}, "unknown field `verify`"),
]


@pytest.mark.parametrize(("args", "said"), REFUSED)
async def test_what_is_refused_says_so(args: JsonObject, said: str) -> None:
    host = HostCalls(HostSettings(http_allow=("localhost:1",), http_private=("localhost:1",)))
    calls = host.open(request())
    whole: JsonObject = {"method": "POST", "url": "http://localhost:1/", **args}
    with pytest.raises(HostCallError) as raised:
        await calls.call("http.request", whole)
    assert said in str(raised.value)
    await calls.close()
    await host.close()


# Of api.example alone, signed by itself, valid until 2126; made by openssl req -x509.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUZ0m+v+ReMbkALhhi/QGb24jXx6EwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLYXBpLmV4YW1wbGUwIBcNMjYxMTI0MjM1MDMzWhgPMjEyNjEw
MzEyMzUwMzNaMBYxFDASBgNVBAMMC2FwaS5leGFtcGxlMFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAE0C8PzNjzJQhc+7AgF++pxR/i6jUrkqyLoOF6lVwUqDXP/GXd
B/2f/llBvZGT2MzKzMRbvnoPEJMbU/1vRi9EfKNrMGkwHQYDVR0OBBYEFCJiQjUx
VK0tmJQh8HGFaEE75dbZMB8GA1UdIwQYMBaAFCJiQjUxVK0tmJQh8HGFaEE75dbZ
MA8GA1UdEwEB/wQFMAMBAf8wFgYDVR0RBA8wDYILYXBpLmV4YW1wbGUwCgYIKoZI
zj0EAwIDRwAwRAIgcHdaqDJIaBmEo4RdzYVPp1u3Gn9MEvmPVPNCh/vUQjECIA6S
H2HF5y+oGMTnWS2brtMeWb6NgC1YfaaQsCXeDgwp
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3ysSPvBzgaxPQVXg
5hK1Rn24OJWeH0XUwsga1xDxfLGhRANCAATQLw/M2PMlCFz7sCAX76nFH+LqNSuS
rIug4XqVXBSoNc/8Zd0H/Z/+WUG9kZPYzMrMxFu+eg8QkxtT/W9GL0R8
-----END PRIVATE KEY-----
"""


async def test_the_certificate_must_be_that_of_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    pem = tmp_path / "api.example.pem"
    pem.write_text(CERTIFICATE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    Resolver(monkeypatch, ["127.0.0.1"])
    allow = [f"api.example:{port}", f"other.example:{port}"]
    trusting = ssl.create_default_context(cafile=str(pem))
    http_calls = HttpCalls(AddressPolicy.parse(allow, allow), trusting)

    def get(name: str) -> Awaitable[JsonObject]:
        arguments = RequestArguments("GET", f"https://{name}:{port}/")
        return http_calls.request(arguments, request(), Steps())

    answer = await get("api.example")
    assert answer["body"] == "ok"
    with pytest.raises(HostCallError, match=r"certificate is not valid for 'other\.example'"):
        await get("other.example")
    assert names == ["api.example", "other.example"]
    untrusting = HttpCalls(AddressPolicy.parse(allow, allow))
    arguments = RequestArguments("GET", f"https://api.example:{port}/")
    with pytest.raises(HostCallError, match=r"self-signed certificate|CERTIFICATE_VERIFY_FAILED"):
        await untrusting.request(arguments, request(), Steps())
    await http_calls.close()
    await untrusting.close()
    listening.close()
    await listening.wait_closed()


async def test_calls_to_our_own_service_and_no_other_carry_the_runs_chain(server: Server) -> None:
    async with Server() as other:
        ours = (f"127.0.0.1:{server.port}",)
        allowed = (f"localhost:{server.port}", f"localhost:{other.port}")
        host = HostCalls(
            HostSettings(
                http_allow=allowed, http_private=allowed, http_own=ours, chain_secret="secret"
            )
        )
        calls = host.open(request())
        try:
            here = f"http://localhost:{server.port}"
            there = f"http://localhost:{other.port}"
            said = [
                heard(await http(calls, "GET", f"{here}/echo")),
                heard(await http(calls, "POST", f"{here}/redirect?to=/echo&code=307")),
                heard(await http(calls, "GET", f"{there}/redirect?to={here}/echo")),
            ]
            elsewhere = [
                heard(await http(calls, "GET", f"{there}/echo")),
                heard(await http(calls, "GET", f"{here}/redirect?to={there}/echo")),
            ]
            with pytest.raises(HostCallError, match="set by Rowcast"):
                await http(calls, "GET", f"{there}/echo", headers={"Rowcast-Chain": "x"})
        finally:
            await calls.close()
            await host.close()
    now_ms = time.time_ns() // 1_000_000
    for one in said:
        headers = one["headers"]
        assert isinstance(headers, dict)
        chain = verify_chain(str(headers["rowcast-chain"]), "secret", now_ms)
        assert chain == Chain("shop/0/1", ("second",))
    for one in elsewhere:
        assert "rowcast-chain" not in str(one["headers"])
