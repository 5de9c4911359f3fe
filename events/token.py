"""JSON Web Tokens (RFC 7519): who a client is, and until when.

Signed with HS256 and our secret or, where a key set (RFC 7517) is given, with a key of it. The
algorithm is ours to choose, or the key's, never the token's: `none` and all others are refused
before anything in the token is believed. Pure: the time is given. `exp` is kept to the second,
since an open connection ends with it; the other times are allowed a small difference of clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import jwt
from jwt.algorithms import requires_cryptography

from events.errors import TokenError, TokenTimeError
from events.json_codec import JsonValue, decode_object

Role: TypeAlias = Literal["anon", "authenticated", "service_role"]

ROLES = cast("tuple[Role, ...]", get_args(Role))
_ALGORITHM = "HS256"
_PUBLIC = requires_cryptography
"""Algorithms of public keys."""
_CLOCK_SKEW_S = 5.0
# PyJWT reads the clock itself and knows one skew for all; only the signature is left to it.
_CHECKED_HERE = {
    f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")
}
_MEND = "`rowcast token` makes a new one"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a token says, verified. `expires_s` is Unix time."""

    role: Role
    subject: str
    expires_s: float
    claims: Mapping[str, object]


def make_token(
    secret: str,
    role: Role,
    subject: str,
    lifetime_s: float,
    *,
    now: float,
    claims: Mapping[str, object] | None = None,
) -> str:
    """A signed token; `now` is Unix time, `claims` are carried beside our own, which win."""
    payload = {
        **(claims or {}),
        "role": role,
        "sub": subject,
        "iat": int(now),
        "exp": int(now + lifetime_s),
    }
    return jwt.encode(payload, secret, algorithm=_ALGORITHM)


def read_key_set(text: bytes | str) -> dict[str, jwt.PyJWK]:
    """The public keys of a JWKS (RFC 7517) by their `kid`; those that are not usable are left out.

    Raises TokenError where the text is no key set, one of secrets, or none of it is usable.
    """
    try:
        listed = decode_object(text)["keys"]
    except (ValueError, KeyError, RecursionError) as error:
        raise TokenError(f"found what is no JWKS ({error!r}), expected a set of keys") from error
    if not isinstance(listed, list):
        raise TokenError(f"found `keys` {_shown(listed)} in a JWKS, expected a list")
    found: dict[str, jwt.PyJWK] = {}
    unusable = ""
    for described in listed:
        try:
            key = _public_key(described)
        except TokenError:
            raise
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            unusable = str(error) or type(error).__name__
            continue
        if key is not None:
            found[key.key_id or ""] = key
    if unusable and not found:
        raise TokenError(f"found no key in a JWKS that can be used ({unusable}), expected one")
    return found


def _public_key(described: JsonValue) -> jwt.PyJWK | None:
    """None for a key that is not for signatures; raises TokenError for a secret one."""
    if not isinstance(described, dict):
        raise TypeError(f"{_shown(described)} is no key")
    key_id, algorithm = described.get("kid"), described.get("alg")
    # PyJWT's keys may have a `kid` of any type; a token's is always a string.
    if not isinstance(key_id, str | None) or not isinstance(algorithm, str | None):
        raise TypeError(f"`kid` {_shown(key_id)} or `alg` {_shown(algorithm)} is no string")
    if described.get("kty") == "oct" or (algorithm or "").startswith("HS"):
        raise TokenError(
            f"found the secret key {_shown(key_id)} in a JWKS, expected public keys; a secret "
            "belongs into http.jwt_secret"
        )
    # RFC 7517, 4.2: a key for encryption signs nothing.
    if described.get("use", "sig") != "sig":
        return None
    if "d" in described:
        raise TypeError("it is a private key")
    return jwt.PyJWK(described)


class TokenVerifier:
    """Tells whose token it is, or raises TokenError.

    `keys` is a JWKS by `kid`, beside the secret; it may be replaced while in use. `on_unknown_key`
    is told of a token that names a key which is not among them. A token without `sub` is refused
    unless `nameless` says otherwise: then its subject is empty.
    """

    def __init__(
        self, secret: str, keys: Mapping[str, jwt.PyJWK] | None = None, *, nameless: bool = False
    ) -> None:
        self._secret = secret
        self._nameless = nameless
        self.keys = keys or {}
        self.on_unknown_key: Callable[[], None] | None = None

    def verify(self, token: str, *, now: float) -> Identity:
        """The identity that a token proves at a time.

        Raises TokenError with what was found, what was expected and what makes a new token.
        """
        claims = self._claims(token)
        expires_s = _time(claims, "exp")
        if expires_s is None:
            raise TokenError(f"found a token without `exp`, expected one that ends; {_MEND}")
        if expires_s <= now:
            raise TokenTimeError(
                f"found a token that expired {_duration(now - expires_s)} ago, expected a valid "
                f"one; {_MEND}"
            )
        for name in ("nbf", "iat"):
            begins_s = _time(claims, name)
            if begins_s is not None and begins_s > now + _CLOCK_SKEW_S:
                raise TokenTimeError(
                    f"found a token that is valid only in {_duration(begins_s - now)} ({name}), "
                    f"expected one for now; compare the clocks, or {_MEND}"
                )
        role, subject = claims.get("role"), claims.get("sub")
        if subject is None and self._nameless:
            subject = ""
        if role not in ROLES:
            raise TokenError(
                f"found the role {_shown(role)}, expected one of {', '.join(ROLES)}; {_MEND}"
            )
        if not isinstance(subject, str):
            raise TokenError(f"found `sub` {_shown(subject)}, expected a string; {_MEND}")
        return Identity(role, subject, expires_s, claims)

    def _claims(self, token: str) -> dict[str, object]:
        expected, signer = _ALGORITHM, "secret, expected one of this installation (http.jwt_secret)"
        try:
            key = self._key(token)
            if key is not None:
                expected, signer = key.algorithm_name, "key, expected the one it names (http.jwks)"
                return jwt.decode(token, key, [expected], options=_CHECKED_HERE)
            return jwt.decode(token, self._secret, [expected], options=_CHECKED_HERE)
        except jwt.InvalidAlgorithmError as error:
            raise TokenError(
                f"found a token of another algorithm ({_algorithm(token)}), expected {expected}; "
                f"{_MEND}"
            ) from error
        except jwt.InvalidSignatureError as error:
            raise TokenError(f"found a token signed with another {signer}; {_MEND}") from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenError(
                f"found what is no token ({error}), expected three parts joined by dots; {_MEND}"
            ) from error

    def _key(self, token: str) -> jwt.PyJWK | None:
        """The public key that a token names; None where it is to be signed with our secret.

        Raises TokenError for a key that is not known (yet).
        """
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm == _ALGORITHM:
            return None
        key_id = str(header.get("kid") or "")
        key = self.keys.get(key_id)
        if key is not None or algorithm not in _PUBLIC or self.on_unknown_key is None:
            return key
        self.on_unknown_key()
        raise TokenError(
            f"found a token of the key {_shown(key_id)}, expected one of "
            f"{', '.join(map(_shown, self.keys)) or 'http.jwks, which was not read'}; the keys are "
            f"read again now, or {_MEND}"
        )


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        time_s = math.nan if isinstance(value, bool) else float(cast("float", value))
    except (TypeError, ValueError, OverflowError):
        time_s = math.nan
    if isinstance(value, str) or not math.isfinite(time_s):
        raise TokenError(f"found `{name}` {_shown(value)}, expected seconds since 1970; {_MEND}")
    return time_s


def _algorithm(token: str) -> str:
    try:
        return _shown(jwt.get_unverified_header(token).get("alg"))
    except jwt.PyJWTError:
        return "unknown"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s"
