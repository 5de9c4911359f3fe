"""The keys of tokens: read, turned over, withdrawn; whatever is served in their place."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.caller import CallerReader
from api.errors import ApiError
from events.errors import TokenError
from events.token import TokenVerifier
from rowcast.key_set import KeySet
from tests.loopback_server import LoopbackServer

pytestmark = pytest.mark.anyio

SECRET = "a secret of thirty-two characters"
NOW = 1_800_000_000.0
CLAIMS = {"role": "service_role", "sub": "ada", "exp": NOW + 60}
RSA_KEY = rsa.generate_private_key(65_537, 2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def rsa_jwk(key_id: str, **more: object) -> dict[str, object]:
    return {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": key_id, **more}


def ec_jwk(key_id: str) -> dict[str, object]:
    return {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": key_id}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def rs256(key_id: str, **claims: object) -> str:
    return jwt.encode({**CLAIMS, **claims}, RSA_KEY, "RS256", headers={"kid": key_id})


def by_hand(header: object, signature_key: bytes = b"") -> str:
    """A token whose header says anything, HS256 with a key, or without a signature."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, CLAIMS)
    ]
    signed = b".".join(parts)
    signature = hmac.digest(signature_key, signed, hashlib.sha256) if signature_key else b""
    return b".".join((signed, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()


def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(TokenError) as refused:
        verifier.verify(token, now=NOW)
    return str(refused.value)


async def accepted(verifier: TokenVerifier, token: str) -> None:
    """Once a token is accepted; each refusal asks for the keys."""
    async with asyncio.timeout(20):
        while True:
            try:
                verifier.verify(token, now=NOW)
            except TokenError:
                await asyncio.sleep(0.01)
            else:
                return


@asynccontextmanager
async def following(
    place: object, *, again_s: float = 60.0
) -> AsyncGenerator[tuple[TokenVerifier, CallerReader]]:
    verifier = TokenVerifier(SECRET)
    keys = KeySet(str(place), [verifier], again_s=again_s, soonest_s=0.01)
    await keys.start()
    try:
        yield verifier, CallerReader(verifier)
    finally:
        await keys.close()


class KeyServer:
    """Answers with whatever `answer` makes."""

    def __init__(self, answer: Callable[[], Response]) -> None:
        self.answer = answer
        self.asked = 0
        self.app = Starlette(routes=[Route("/keys", self._keys)])

    def _keys(self, _request: Request) -> Response:
        self.asked += 1
        return self.answer()


async def test_keys_come_from_a_file_and_a_new_one_counts_with_its_first_token(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(rsa_jwk("k1"), ec_jwk("k2")))
    async with following(file) as (verifier, _):
        verifier.verify(rs256("k1"), now=NOW)
        verifier.verify(jwt.encode(CLAIMS, EC_KEY, "ES256", headers={"kid": "k2"}), now=NOW)
        verifier.verify(jwt.encode(CLAIMS, SECRET, "HS256"), now=NOW)
        assert "'k3', expected one of 'k1', 'k2'" in refusal(verifier, rs256("k3"))
        file.write_bytes(key_set(rsa_jwk("k3")))
        await accepted(verifier, rs256("k3"))
        assert "'k1', expected one of 'k3'" in refusal(verifier, rs256("k1"))


async def test_a_token_of_a_key_that_was_withdrawn_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(key_set(rsa_jwk("k1")))
    async with following(file) as (verifier, callers):
        headers = {"authorization": f"Bearer {rs256('k1')}"}
        assert callers.read(headers, "", now=NOW).subject == "ada"
        file.write_bytes(key_set())
        with pytest.raises(TokenError):
            verifier.verify(rs256("other"), now=NOW)
        async with asyncio.timeout(20):
            while verifier.keys:
                await asyncio.sleep(0.01)
        with pytest.raises(ApiError):
            callers.read(headers, "", now=NOW)


async def test_keys_come_from_an_address_and_are_read_again_without_being_asked_for() -> None:
    served = KeyServer(lambda: Response(key_set(rsa_jwk("k1"))))
    async with (
        LoopbackServer(served.app) as server,
        following(f"{server.url}/keys", again_s=0.02) as (verifier, _),
    ):
        known = verifier.keys
        verifier.verify(rs256("k1"), now=NOW)
        async with asyncio.timeout(20):
            while served.asked < 3:
                await asyncio.sleep(0.01)
        # The same text: what rests on the keys stands.
        assert verifier.keys is known


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(status_code=500),
        lambda: Response(status_code=302, headers={"location": "/elsewhere"}),
        lambda: Response(b"<html>"),
        lambda: Response(b"\xff\xfe"),
        lambda: Response(b"[" * 100_000),
        lambda: Response(b'{"keys": {}}'),
        lambda: Response(key_set({"kty": "oct", "kid": "k1", "k": "c2VjcmV0"})),
        lambda: Response(key_set(rsa_jwk("k1", alg="HS256"))),
        lambda: Response(key_set({"kty": "EC", "crv": "P-256", "kid": "x", "x": "AA", "y": "AA"})),
        lambda: Response(key_set(rsa_jwk("k9", n="!"), 7, None)),
        lambda: Response(key_set(rsa_jwk("k9", kid=["k9"]))),
        lambda: Response(key_set(rsa_jwk("k9", alg={"a": 1}))),
        lambda: Response(key_set(rsa_jwk("k9"), *["x" * 1_000] * 2_000)),
    ],
)
async def test_what_cannot_be_read_leaves_the_keys_and_the_next_reading_mends_it(
    answer: Callable[[], Response], caplog: pytest.LogCaptureFixture
) -> None:
    served = KeyServer(lambda: Response(key_set(rsa_jwk("k1"))))
    async with (
        LoopbackServer(served.app) as server,
        following(f"{server.url}/keys") as (verifier, _),
    ):
        known = verifier.keys
        served.answer = answer
        refusal(verifier, rs256("k2"))
        async with asyncio.timeout(20):
            while "were not read" not in caplog.text:
                await asyncio.sleep(0.01)
        assert "mend http.jwks" in caplog.text
        assert verifier.keys is known
        served.answer = lambda: Response(key_set(rsa_jwk("k2")))
        await accepted(verifier, rs256("k2"))


async def test_a_server_that_is_down_at_the_start_is_asked_again_by_the_first_token(
    tmp_path: Path,
) -> None:
    async with following("http://127.0.0.1:9/keys") as (verifier, _):
        verifier.verify(jwt.encode(CLAIMS, SECRET, "HS256"), now=NOW)
        assert "http.jwks, which was not read" in refusal(verifier, rs256("k1"))
    file = tmp_path / "keys.json"
    async with following(file) as (verifier, _):
        file.write_bytes(key_set(rsa_jwk("k1")))
        await accepted(verifier, rs256("k1"))


async def test_a_token_chooses_neither_its_algorithm_nor_the_kind_of_its_key(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys.json"
    # A key for encryption signs nothing, and a broken one beside it takes nothing from the others.
    file.write_bytes(
        key_set(rsa_jwk("k1"), ec_jwk("k2"), rsa_jwk("enc", use="enc"), rsa_jwk("bad", n=7))
    )
    pem, der = (
        RSA_KEY.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
    )
    async with following(file) as (verifier, _):
        assert set(verifier.keys) == {"k1", "k2"}
        for token in (
            by_hand({"alg": "none", "kid": "k1"}),
            by_hand({"alg": "none"}),
            by_hand({"alg": "None", "kid": "k1"}),
            by_hand({"alg": "HS256", "kid": "k1"}),
            *(by_hand({"alg": "HS256", "kid": "k1"}, key) for key in (pem, pem.strip(), der)),
            *(by_hand({"alg": "RS256", "kid": "k1"}, key) for key in (pem, der)),
            # Our own secret with the name of a public key's algorithm.
            by_hand({"alg": "RS256", "kid": "k1"}, SECRET.encode()),
            by_hand({"alg": "RS256", "kid": ""}, SECRET.encode()),
            # Keys of other kinds.
            jwt.encode(CLAIMS, EC_KEY, "ES256", headers={"kid": "k1"}),
            rs256("k2"),
            rs256("enc"),
            jwt.encode(CLAIMS, RSA_KEY, "RS512", headers={"kid": "k1"}),
            # Keys that a token brings along.
            jwt.encode(CLAIMS, RSA_KEY, "RS256", headers={"kid": "x", "jwk": rsa_jwk("x")}),
            jwt.encode(CLAIMS, RSA_KEY, "RS256", headers={"jku": "http://127.0.0.1:9/k"}),
            *(by_hand({"alg": alg, "kid": kid}) for alg, kid in (("RS256", 1), ({"a": 1}, "k1"))),
            by_hand({"alg": "RS256", "kid": ["k1"]}),
            by_hand({"kid": "k1"}),
            by_hand([]),
            rs256("k1", exp=NOW),
            rs256("k1", exp=None),
            rs256("k1", nbf=NOW + 60),
            rs256("k1", role="root"),
        ):
            assert "expected" in refusal(verifier, token), token
        verifier.verify(rs256("k1"), now=NOW)
