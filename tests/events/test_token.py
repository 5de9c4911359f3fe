from __future__ import annotations

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from events.errors import TokenError
from events.token import TokenVerifier, make_token, read_key_set

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


def test_a_key_of_a_jwks_signs_tokens_beside_the_secret() -> None:
    own, other = (rsa.generate_private_key(65_537, 2_048) for _ in range(2))
    numbers = own.public_key().public_numbers()
    public = {"kty": "RSA", "n": base64url(numbers.n), "e": base64url(numbers.e)}
    keys = read_key_set(json.dumps({"keys": [{**public, "kid": "k1", "alg": "RS256"}]}))
    verifier = TokenVerifier(SECRET, keys)
    claims = {"role": "authenticated", "sub": "ada", "exp": NOW + 60}

    def rs256(key: rsa.RSAPrivateKey, key_id: str) -> str:
        return jwt.encode(claims, key, "RS256", headers={"kid": key_id})

    assert verifier.verify(rs256(own, "k1"), now=NOW).subject == "ada"
    assert verifier.verify(signed(), now=NOW).role == "anon"
    for forged in (rs256(other, "k1"), rs256(own, "k2"), rs256(other, "")):
        with pytest.raises(TokenError):
            verifier.verify(forged, now=NOW)
    # The public key is known to everybody: as an HS256 secret it must prove nothing.
    with pytest.raises(TokenError):
        verifier.verify(jwt.encode(claims, public["n"], "HS256", headers={"kid": "k1"}), now=NOW)


def base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_jwks_of_secrets_or_of_nonsense_is_refused() -> None:
    secret = {"kty": "oct", "kid": "s", "k": "c2VjcmV0", "alg": "HS256"}
    for text in (json.dumps({"keys": [secret]}), "{}", "[]", "nonsense", '{"keys": 7}'):
        with pytest.raises(TokenError, match="JWKS"):
            read_key_set(text)


def test_a_token_without_a_subject_is_accepted_where_that_is_said() -> None:
    token = signed(sub=...)
    assert TokenVerifier(SECRET, nameless=True).verify(token, now=NOW).subject == ""
