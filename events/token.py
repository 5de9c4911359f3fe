"""JSON Web Tokens (RFC 7519): who a client is, and until when.

Signed with HS256 and our secret or, where a key set (RFC 7517) is given, with a key of it. The
algorithm is ours to choose, or the key's, never the token's: `none` and all others are refused
before anything in the token is believed. Pure: the time is given. `exp` is kept to the second,
since an open connection ends with it; the other times are allowed a small difference of clocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

import jwt

from events.errors import TokenError, TokenTimeError

Role: TypeAlias = Literal["anon", "authenticated", "service_role"]

ROLES = cast("tuple[Role, ...]", get_args(Role))
_ALGORITHM = "HS256"
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
    """The public keys of a JWKS by their `kid`.

    Raises TokenError where the text is no key set, or one of secrets.
    """
    try:
        keys = jwt.PyJWKSet.from_json(text if isinstance(text, str) else text.decode()).keys
    except (jwt.PyJWTError, ValueError, AttributeError, TypeError) as error:
        raise TokenError(f"found what is no JWKS ({error}), expected a set of keys") from error
    found = {key.key_id or "": key for key in keys}
    for key_id, key in found.items():
        if key.key_type == "oct" or key.algorithm_name.startswith("HS"):
            raise TokenError(
                f"found the secret key {key_id!r} in a JWKS, expected public keys; a secret "
                "belongs into http.jwt_secret"
            )
    return found


class TokenVerifier:
    """Tells whose token it is, or raises TokenError.

    `keys` is a JWKS by `kid`, beside the secret; it may be changed while in use. A token without
    `sub` is refused unless `nameless` says otherwise: then its subject is empty.
    """

    def __init__(
        self, secret: str, keys: Mapping[str, jwt.PyJWK] | None = None, *, nameless: bool = False
    ) -> None:
        self._secret = secret
        self._nameless = nameless
        self.keys = keys or {}

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
        try:
            key = self._key(token) if self.keys else None
            if key is not None:
                return jwt.decode(token, key, [key.algorithm_name], options=_CHECKED_HERE)
            return jwt.decode(token, self._secret, [_ALGORITHM], options=_CHECKED_HERE)
        except jwt.InvalidAlgorithmError as error:
            raise TokenError(
                f"found a token of another algorithm ({_algorithm(token)}), expected {_ALGORITHM}; "
                f"{_MEND}"
            ) from error
        except jwt.InvalidSignatureError as error:
            raise TokenError(
                "found a token signed with another secret, expected one of this installation "
                f"(http.jwt_secret); {_MEND}"
            ) from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenError(
                f"found what is no token ({error}), expected three parts joined by dots; {_MEND}"
            ) from error

    def _key(self, token: str) -> jwt.PyJWK | None:
        """The public key that a token names; None where it is to be signed with our secret."""
        header = jwt.get_unverified_header(token)
        if header.get("alg") == _ALGORITHM:
            return None
        return self.keys.get(str(header.get("kid", "")))


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
