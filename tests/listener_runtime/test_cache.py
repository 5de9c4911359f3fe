"""One suite over both caches: the embedded one and a real Redis."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from events.chain import Chain
from events.json_codec import JsonObject
from events.run import RunRequest
from listener_runtime.cache import Cache, EmbeddedCache
from listener_runtime.errors import HostCallError, SandboxError
from listener_runtime.host_calls import HostCalls, RunCalls
from listener_runtime.redis_cache import RedisCache
from listener_runtime.settings import HostSettings
from tests.port_base import free_ports

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("redis")
    (port,) = free_ports(1)
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    with subprocess.Popen(("redis-server", *options), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if "Ready to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()
        server.stdout.read()


@pytest.fixture(params=["embedded", pytest.param("redis", marks=pytest.mark.integration)])
async def cache(request: pytest.FixtureRequest) -> AsyncGenerator[Cache]:
    made: Cache
    if request.param == "embedded":
        made = EmbeddedCache(time.monotonic)
    else:
        made = RedisCache(request.getfixturevalue("redis_url"), request.node.name)
    yield made
    await made.close()


async def test_what_is_set_is_given_until_it_is_set_anew_or_deleted(cache: Cache) -> None:
    assert await cache.get("t", "a") is None
    await cache.set("t", "a", b"1", None)
    await cache.set("t", "a", b"2", 60)
    assert await cache.get("t", "a") == b"2"
    assert await cache.delete("t", "a") == 1
    assert await cache.delete("t", "a") == 0
    assert await cache.get("t", "a") is None


async def test_what_has_a_time_is_gone_after_it_and_setting_anew_takes_it_off(
    cache: Cache,
) -> None:
    await cache.set("t", "short", b"1", 0.05)
    await cache.set("t", "kept", b"1", 0.05)
    await cache.set("t", "kept", b"2", None)
    async with asyncio.timeout(30):
        while await cache.get("t", "short") is not None:
            await asyncio.sleep(0.01)
    assert await cache.get("t", "kept") == b"2"
    assert await cache.delete("t", "short") == 0


async def test_keys_are_deleted_by_what_they_begin_with_as_plain_text(cache: Cache) -> None:
    names = ["user:1", "user:2", "user*", "u[s]er", "user^", "us\\er", "é", "other"]
    for name in names:
        await cache.set("t", name, b"1", None)
    assert await cache.delete_prefix("t", "user*") == 1
    assert await cache.delete_prefix("t", "u[s]") == 1
    assert await cache.delete_prefix("t", "us\\") == 1
    assert await cache.delete_prefix("t", "?") == 0
    assert await cache.delete_prefix("t", "user") == 3
    assert [await cache.get("t", name) for name in ("é", "other")] == [b"1", b"1"]


async def test_many_keys_are_deleted_by_prefix(cache: Cache) -> None:
    for number in range(3_000):
        await cache.set("t", f"n:{number}", b"1", None)
    assert await cache.delete_prefix("t", "n:") == 3_000


async def test_tenants_never_meet(cache: Cache) -> None:
    await cache.set("a", "b:c", b"1", None)
    await cache.set("a:b", "c", b"2", None)
    await cache.set("a%3Ab", "c", b"3", None)
    assert await cache.delete_prefix("a", "b") == 1
    assert await cache.get("a:b", "c") == b"2"
    assert await cache.get("a%3Ab", "c") == b"3"
    assert await cache.delete("a", "c") == 0


async def test_the_embedded_cache_forgets_what_was_used_longest_ago() -> None:
    cache = EmbeddedCache(lambda: 0.0, limit_bytes=10_000)
    await cache.set("t", "used", b"x" * 1_000, None)
    for number in range(100):
        await cache.set("t", str(number), b"x" * 1_000, None)
        assert cache.size_bytes <= 10_000
        assert await cache.get("t", "used") is not None
    assert await cache.get("t", "0") is None
    assert await cache.get("t", "99") is not None
    assert await cache.delete_prefix("t", "") > 2
    assert cache.size_bytes == 0


async def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    (port,) = free_ports(1)
    cache = RedisCache(f"redis://:hunter22@127.0.0.1:{port}/0", "p")
    with pytest.raises(HostCallError, match=r"\[listeners\] cache") as raised:
        await cache.get("t", "a")
    assert "hunter22" not in str(raised.value)
    await cache.close()
    with pytest.raises(SandboxError, match="expected redis://"):
        RedisCache("http://x", "p")


@pytest.fixture
async def calls() -> AsyncGenerator[RunCalls]:
    host = HostCalls(HostSettings())
    calls = host.open(RunRequest("r", "l", "", b"{}", "e", Chain("root")))
    yield calls
    await calls.close()
    await host.close()


async def test_a_run_gets_what_it_set(calls: RunCalls) -> None:
    await calls.call("cache.set", {"key": "a", "value": {"n": None}, "ttl_s": 60})
    assert await calls.call("cache.get", {"key": "a"}) == {"value": {"n": None}}
    assert await calls.call("cache.get", {"key": "b"}) == {}
    assert await calls.call("cache.delete", {"prefix": "a"}) == {"deleted": 1}


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("cache.get", {}, "missing required field `key`"),
        ("cache.get", {"key": ""}, "expected 1 to 500"),
        ("cache.get", {"key": "\ud800"}, "no Unicode"),
        ("cache.set", {"key": "a"}, "missing required field `value`"),
        ("cache.set", {"key": "a", "value": 1, "ttl_s": 0}, "expected 0.001"),
        ("cache.set", {"key": "a", "value": 1, "ttl_s": 1e300}, "a year"),
        ("cache.set", {"key": "a", "value": 2**70}, "JSON cannot hold"),
        ("cache.set", {"key": "a", "value": "x" * 1_048_576}, "expected 1,048,576 at most"),
        ("cache.delete", {}, "either a key or prefix="),
        ("cache.delete", {"key": "a", "prefix": "b"}, "either a key or prefix="),
        ("cache.delete", {"prefix": ""}, "expected 1 to 500"),
    ],
)
async def test_what_is_refused_says_why(
    calls: RunCalls, name: str, args: JsonObject, said: str
) -> None:
    with pytest.raises(HostCallError) as raised:
        await calls.call(name, args)
    assert said in str(raised.value)


@pytest.mark.integration
async def test_the_address_in_the_settings_is_the_cache_of_all_pools(redis_url: str) -> None:
    settings = HostSettings(cache=redis_url, cache_prefix="shared")
    one, other = HostCalls(settings), HostCalls(settings)
    request = RunRequest("r", "l", "", b"{}", "e", Chain("root"))
    await one.open(request).call("cache.set", {"key": "a", "value": [1]})
    assert await other.open(request).call("cache.get", {"key": "a"}) == {"value": [1]}
    await one.close()
    await other.close()
