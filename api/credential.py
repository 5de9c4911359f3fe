"""The credential of a third-party API: made of the installation's secrets, sent, and never told.

OAuth2's client credentials (RFC 6749, section 4.4) are exchanged for a token, which is kept until
shortly before it ends and asked for anew where the API refuses it; of several calls that need one
at once, one asks.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import time
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus, urlencode

from api.forwarded_headers import HeaderList
from api.third_party_definition import (
    BasicCredential,
    BearerCredential,
    HeaderCredential,
    OAuth2Credential,
    ThirdParty,
)
from api.upstream import Outbound, UpstreamError, UpstreamRequest
from events.json_codec import decode_object
from events.redaction import Redaction

_TOKEN_BYTES_MAX: Final = 64 * 1024
_LIFETIME_S: Final = 300.0
"""Of a token that does not say when it ends."""
_LEEWAY_S: Final = 30.0
_TOKENS_MASKED: Final = 8


class CredentialMissingError(Exception):
    """A secret that the definition names is none of the installation's."""


class CredentialHolder:
    """The credential of one definition."""

    def __init__(
        self, definition: ThirdParty, secrets: Mapping[str, str], outbound: Outbound
    ) -> None:
        self._credential = definition.credential
        self._private = definition.private
        self._missing = [name for name in definition.secret_names if not secrets.get(name)]
        self._secret = "".join(secrets.get(name, "") for name in definition.secret_names)
        self._outbound = outbound
        self._token = ""
        self._token_until_s = 0.0
        self._masked: list[str] = [*self._forms()]
        self._asking = asyncio.Lock()
        self.redaction = Redaction(self._masked)

    async def headers(self) -> HeaderList:
        """The headers that say who we are.

        Raises CredentialMissingError, and UpstreamError where no token is had.
        """
        if self._missing:
            raise CredentialMissingError(", ".join(self._missing))
        match self._credential:
            case None:
                return ()
            case HeaderCredential(header=name, prefix=prefix):
                return ((name.lower(), prefix + self._secret),)
            case BearerCredential():
                return (("authorization", f"Bearer {self._secret}"),)
            case BasicCredential(username=user):
                return (("authorization", f"Basic {_basic(user, self._secret)}"),)
            case OAuth2Credential() as client:
                return (("authorization", f"Bearer {await self._valid_token(client)}"),)

    def refused(self, sent: HeaderList) -> bool:
        """The API refused what was sent; whether another may be had by asking again."""
        if not isinstance(self._credential, OAuth2Credential):
            return False
        if ("authorization", f"Bearer {self._token}") in sent:
            self._token = ""
        return True

    async def _valid_token(self, client: OAuth2Credential) -> str:
        async with self._asking:
            if not self._token or time.monotonic() >= self._token_until_s:
                self._token, lifetime_s = await self._asked_token(client)
                self._token_until_s = time.monotonic() + lifetime_s - min(_LEEWAY_S, lifetime_s / 2)
                self._masked = [*self._forms(), *self._masked[: _TOKENS_MASKED * 8]]
                self.redaction = Redaction(self._masked)
            return self._token

    async def _asked_token(self, client: OAuth2Credential) -> tuple[str, float]:
        form = {"grant_type": "client_credentials"}
        if client.scopes:
            form["scope"] = " ".join(client.scopes)
        if client.audience:
            form["audience"] = client.audience
        headers = [
            ("accept", "application/json"),
            ("content-type", "application/x-www-form-urlencoded"),
        ]
        if client.send == "form":
            form |= {"client_id": client.client_id, "client_secret": self._secret}
        else:
            # Both parts are encoded as in forms before they are joined (RFC 6749, 2.3.1).
            basic = _basic(quote_plus(client.client_id), quote_plus(self._secret))
            headers.append(("authorization", f"Basic {basic}"))
        response = await self._outbound.send(
            UpstreamRequest(
                "POST",
                client.token_url,
                tuple(headers),
                urlencode(form).encode(),
                _TOKEN_BYTES_MAX,
                self._private,
            )
        )
        if response.status != 200:
            raise UpstreamError(
                f"its token endpoint answered {response.status}, expected 200", sent=False
            )
        try:
            found = decode_object(response.body)
        except ValueError as error:
            raise UpstreamError("its token endpoint answered no JSON", sent=False) from error
        token, lifetime = found.get("access_token"), found.get("expires_in", _LIFETIME_S)
        if not isinstance(token, str) or not token or not token.isprintable() or " " in token:
            raise UpstreamError("its token endpoint answered no access_token", sent=False)
        if isinstance(lifetime, str) and lifetime.isdecimal():
            lifetime = int(lifetime[:9])  # some servers write the number as text
        if isinstance(lifetime, (int, float)) and lifetime > 0:
            return token, float(lifetime)
        return token, _LIFETIME_S

    def _forms(self) -> Iterator[str]:
        """The secret texts as they may come back, in the ways in which servers write texts."""
        for text in (self._secret, self._token):
            if not text:
                continue
            yield text
            yield quote(text, safe="")
            yield quote_plus(text)
            yield json.dumps(text)[1:-1]
            yield html.escape(text)
            yield base64.b64encode(text.encode()).decode().rstrip("=")
        match self._credential:
            case BasicCredential(username=user):
                yield _basic(user, self._secret).rstrip("=")
            case OAuth2Credential(client_id=user):
                yield _basic(quote_plus(user), quote_plus(self._secret)).rstrip("=")
            case _:
                pass


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
