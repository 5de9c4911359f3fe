"""Rate, circuit, retries, caching and definitions, where no server is needed."""

from __future__ import annotations

import pytest

from api.circuit import Circuit
from api.errors import ApiDefinitionError
from api.response_cache import CachedAnswer, CacheKey, ResponseCache, fresh_s
from api.third_party_definition import (
    Retries,
    ThirdParty,
    decode_third_party,
    parse_third_party_file,
)
from api.token_bucket import TokenBucket, TokenBuckets
from api.upstream_retry import backoff_s, may_repeat, retry_after_s


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(2.0, 3.0, now_s=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert bucket.take(100.5) == 0
    assert bucket.take(50.0) > 0
    assert [bucket.take(1_000.0) for _ in range(4)][3] > 0
    buckets = TokenBuckets(1.0, 1.0)
    assert [buckets.take(f"caller {n}", 1.0) for n in range(20_000)] == [0.0] * 20_000
    assert buckets.take("caller 19999", 1.0) > 0


def test_a_circuit_opens_after_failures_and_lets_one_try_again() -> None:
    circuit = Circuit(2, 10.0)
    circuit.failed(0.0)
    circuit.succeeded()
    circuit.failed(1.0)
    assert circuit.wait_s(1.0) == 0
    circuit.failed(2.0)
    assert circuit.wait_s(2.0) == 10
    assert circuit.wait_s(12.0) == 0
    assert circuit.wait_s(12.0) == 10
    circuit.failed(13.0)
    assert circuit.wait_s(14.0) == 9
    assert circuit.wait_s(23.0) == 0
    circuit.succeeded()
    assert [circuit.wait_s(23.0) for _ in range(3)] == [0, 0, 0]


def test_retries_wait_longer_each_time_and_as_they_are_told() -> None:
    retries = Retries(backoff_s=1.0, factor=3.0, max_s=5.0)
    assert [backoff_s(retries, n, 1.0) for n in (1, 2, 3, 10_000)] == [1, 3, 5, 5]
    assert backoff_s(retries, 2, 0.0) == 0
    assert may_repeat("DELETE", has_key=False)
    assert may_repeat("POST", has_key=True)
    assert not may_repeat("PATCH", has_key=False)
    assert retry_after_s("120", 0) == 120
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 20.0) == 40
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 90.0) == 0
    assert [retry_after_s(text, 0) for text in ("soon", "-1", "", "1e9")] == [None] * 4


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        ("", 60),
        ("max-age=10", 10),
        ("max-age=999", 60),
        ("max-age=9, s-maxage=5", 5),
        ("max-age=soon", 0),
        ("No-Store", 0),
        ("private, max-age=10", 0),
        ('no-cache="x"', 0),
    ],
)
def test_how_long_an_answer_is_kept_is_for_both_sides_to_say(says: str, seconds: float) -> None:
    assert fresh_s(200, [("cache-control", says)], 60.0) == seconds
    assert fresh_s(500, [("cache-control", says)], 60.0) == 0
    for header in (("set-cookie", "a=1"), ("vary", "accept, *")):
        assert fresh_s(200, [("cache-control", says), header], 60.0) == 0


def test_age_counts_and_the_cache_is_bounded() -> None:
    assert fresh_s(200, [("cache-control", "max-age=10"), ("age", "7")], 60.0) == 3
    cache = ResponseCache(3_000)
    keys = [CacheKey("pay", 1, f"/{n}", (), "") for n in range(3)]
    for key in keys:
        cache.keep(key, CachedAnswer(200, (), b"x" * 900, 0.0, 10.0))
    assert [cache.get(key, 1.0) is None for key in keys] == [True, False, False]
    assert cache.get(keys[2], 10.0) is None
    cache.keep(keys[0], CachedAnswer(200, (), b"x" * 4_000, 0.0, 10.0))
    assert cache.get(keys[0], 1.0) is None
    assert cache.get(keys[1], 1.0) is not None


GOOD = 'third_party = "pay"\nbase_url = "https://api.example.com/v1"\n'


def test_a_definition_is_read_back_from_its_record() -> None:
    text = GOOD + 'paths = ["/charges/**"]\n[credential]\nkind = "bearer"\nsecret = "KEY"\n'
    party = parse_third_party_file("pay.toml", text)
    first = party.succeeding(None, 0)
    assert isinstance(first, ThirdParty)
    assert (first.name, first.kind, first.version) == ("pay", "third_party", 1)
    assert decode_third_party(first.encode()) == first
    assert party.succeeding(first, 0) is first
    assert first.secret_names == ("KEY",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('third_party = "a b"\nbase_url = "https://x"', "found the name 'a b'"),
        ("third_party = 1", "found third_party = 1"),
        ('third_party = "x"', "base_url"),
        ('third_party = "x"\nbase_url = "ftp://x"', "expected https://host/path"),
        ('third_party = "x"\nbase_url = "https://u:p@x"', "a password belongs in"),
        ('third_party = "x"\nbase_url = "https://x/a/../b"', "expected a plain path"),
        (GOOD + 'method = "GET"', "unknown key 'method'"),
        (GOOD + "version = 3", "found the key 'version'"),
        (GOOD + 'methods = ["CONNECT"]', "found the method 'CONNECT'"),
        (GOOD + 'paths = ["charges"]', "found the path 'charges'"),
        (GOOD + 'roles = ["admin"]', "'admin'"),
        (GOOD + 'forward_headers = ["Authorization"]', "one that callers may send"),
        (GOOD + 'headers = { Host = "x" }', "one that may be set"),
        (GOOD + 'headers = { a = "x\\ny" }', "a character that headers cannot carry"),
        (GOOD + 'redact = ["$["]', "in the path"),
        (GOOD + "timeout_s = 0", "found timeout_s = 0"),
        (GOOD + "[rate_limit]\nper_s = 0", r"found rate_limit.per_s = 0"),
        (GOOD + '[credential]\nkind = "magic"', "magic"),
        (GOOD + '[credential]\nkind = "header"\nheader = "Host"\nsecret = "K"', "header's name"),
        (GOOD + '[credential]\nkind = "basic"\nusername = "a:b"\npassword = "K"', "a colon"),
    ],
)
def test_a_mistake_in_a_definition_is_named(text: str, expected: str) -> None:
    with pytest.raises(ApiDefinitionError, match=expected):
        parse_third_party_file("pay.toml", text)
