"""`rowcast token`: from what was typed to a signed token."""

from __future__ import annotations

import re
import time

from events.json_codec import decode_object
from events.token import Role, make_token
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation

_LIFETIME = re.compile(r"(-?\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def token_text(
    installation: Installation, role: Role, subject: str, expires: str, claims: str
) -> str:
    """The token; raises ConfigurationError for a lifetime or claims that mean nothing."""
    match = _LIFETIME.fullmatch(expires)
    if match is None:
        raise ConfigurationError(
            f"found the lifetime {expires!r}, expected a number and s, m, h or d, e.g. 15m"
        )
    try:
        more = decode_object(claims)
    except ValueError as error:
        raise ConfigurationError(
            f"found the claims {claims!r}, expected a JSON object: {error}"
        ) from error
    lifetime_s = float(int(match[1]) * _SECONDS[match[2]])
    return make_token(
        installation.jwt_secret, role, subject, lifetime_s, now=time.time(), claims=more
    )
