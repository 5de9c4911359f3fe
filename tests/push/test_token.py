from __future__ import annotations

import base64
import json

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from push.errors import TokenError
from push.token import TokenVerifier, make_token

SECRET = "a secret of thirty-two characters"
NOW = 1_800_000_000.0


def refusal(token: str, secret: str = SECRET, now: float = NOW) -> str:
    with pytest.raises(TokenError) as refused:
        TokenVerifier(secret).verify(token, now=now)
    assert "`rowcast token`" in str(refused.value)
    assert "expected" in str(refused.value)
    return str(refused.value)


def signed(**claims: object) -> str:
    whole = {"role": "anon", "sub": "x", "exp": NOW + 60, **claims}
    return jwt.encode({name: it for name, it in whole.items() if it is not ...}, SECRET, "HS256")


def test_a_token_tells_whose_it_is_and_until_when() -> None:
    token = make_token(SECRET, "service_role", "ada", 60, now=NOW, claims={"tenant": 7})
    identity = TokenVerifier(SECRET).verify(token, now=NOW)
    assert (identity.role, identity.subject) == ("service_role", "ada")
    assert identity.expires_s == NOW + 60
    assert identity.claims["tenant"] == 7


def test_claims_given_never_replace_our_own() -> None:
    claims = {"role": "service_role", "sub": "root", "exp": NOW + 10**9}
    token = make_token(SECRET, "anon", "ada", 60, now=NOW, claims=claims)
    identity = TokenVerifier(SECRET).verify(token, now=NOW)
    assert (identity.role, identity.subject, identity.expires_s) == ("anon", "ada", NOW + 60)


def test_a_token_is_accepted_until_its_end_and_not_a_second_longer() -> None:
    token = make_token(SECRET, "anon", "ada", 60, now=NOW)
    TokenVerifier(SECRET).verify(token, now=NOW + 59.9)
    assert "expired" in refusal(token, now=NOW + 60)
    assert "expired" in refusal(make_token(SECRET, "anon", "ada", -1, now=NOW))


def test_the_algorithm_is_ours_to_choose() -> None:
    claims = {"role": "service_role", "sub": "x", "exp": NOW + 60}
    assert "algorithm" in refusal(jwt.encode(claims, SECRET * 2, "HS512"))
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "JWT"}, claims)
    )
    assert "algorithm" in refusal(f"{head}.{body}.")


def test_another_secret_and_a_changed_body_are_refused() -> None:
    token = make_token(SECRET, "anon", "ada", 60, now=NOW)
    assert "another secret" in refusal(token, secret="b" + SECRET)
    other = make_token(SECRET, "service_role", "ada", 60, now=NOW)
    head, _, signature = token.split(".")
    assert "another secret" in refusal(f"{head}.{other.split('.')[1]}.{signature}")


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"role": "root"}, "role 'root'"),
        ({"role": ...}, "role None"),
        ({"role": ["anon"]}, "role ['anon']"),
        ({"sub": 7}, "`sub` 7"),
        ({"sub": ...}, "`sub` None"),
        ({"exp": ...}, "without `exp`"),
        ({"exp": "soon"}, "`exp` 'soon'"),
        ({"exp": True}, "`exp` True"),
        ({"exp": {"a": 1}}, "`exp` {'a': 1}"),
        ({"exp": 10**400}, "`exp` 1000"),
        ({"nbf": NOW + 60}, "valid only in 60 s"),
        ({"iat": NOW + 60}, "valid only in 60 s"),
    ],
)
def test_claims_that_mean_nothing_are_named(claims: dict[str, object], said: str) -> None:
    assert said in refusal(signed(**claims))


def test_clocks_may_differ_a_little() -> None:
    TokenVerifier(SECRET).verify(signed(nbf=NOW + 4, iat=NOW + 4), now=NOW)


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_whatever_is_no_token_is_refused_and_raises_nothing_else(text: str) -> None:
    refusal(text)
