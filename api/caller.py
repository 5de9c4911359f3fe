"""Who calls: role, subject, claims and address, from the headers of a request.

As Supabase's clients send them: `apikey` holds the key of the application, `Authorization:
Bearer` the token of the user and, where nobody has signed in, the key again. The user's counts;
without either the caller is `anon`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from api.errors import ApiError
from events.errors import TokenError, TokenTimeError
from events.json_codec import JsonObject, encode
from events.token import Identity, Role, TokenVerifier

_REMEMBERED_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Caller:
    """`claims` is the JSON that policies read; `subject` is empty where there is none."""

    role: Role
    subject: str
    claims: bytes
    address: str

    def described(self) -> JsonObject:
        """As it stands in events."""
        return {"role": self.role, "subject": self.subject or None, "address": self.address}

    def check_service(self) -> None:
        """Raises ApiError (403) where it is not the service's own role."""
        if self.role != "service_role":
            raise ApiError(
                403,
                "42501",
                f"found the role {self.role}, expected service_role",
                hint="`rowcast token --role service_role` makes one that may",
            )


_NOBODY_CLAIMS = encode({"role": "anon"})


def role_may(role: Role, named: Collection[Role]) -> bool:
    """Whether a role is among those that are named: what anon may, everybody may."""
    return role == "service_role" or role in named or "anon" in named


class CallerReader:
    """Reads callers; a token is verified once and remembered until it ends or keys change."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self._keys = verifier.keys
        self._known: dict[str, tuple[Identity, bytes]] = {}

    def read(self, headers: Mapping[str, str], address: str, *, now: float) -> Caller:
        """The caller of a request whose header names are in lower case.

        Raises ApiError (401) for a token that is not accepted: PGRST303 where only its time is
        over or has not come, else PGRST301.
        """
        token = _bearer(headers.get("authorization", "")) or headers.get("apikey", "")
        if not token:
            return Caller("anon", "", _NOBODY_CLAIMS, address)
        if self._verifier.keys is not self._keys:
            # A token of a key that was withdrawn proves nothing any more.
            self._keys = self._verifier.keys
            self._known.clear()
        known = self._known.get(token)
        if known is None or known[0].expires_s <= now:
            known = self._verify(token, now)
        identity, claims = known
        return Caller(identity.role, identity.subject, claims, address)

    def _verify(self, token: str, now: float) -> tuple[Identity, bytes]:
        self._known.pop(token, None)
        try:
            identity = self._verifier.verify(token, now=now)
            claims = encode(dict(identity.claims))
        except (TokenError, TypeError) as error:
            raise ApiError(
                401,
                "PGRST303" if isinstance(error, TokenTimeError) else "PGRST301",
                str(error),
                headers=(("www-authenticate", 'Bearer error="invalid_token"'),),
            ) from error
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
        self._known[token] = (identity, claims)
        return identity, claims


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
