"""`rowcast token`: from what was typed to a signed token."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from events.json_codec import JsonObject, decode_object
from events.token import Role, make_token
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation

_LIFETIME = re.compile(r"(-?\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def token_text(
    installation: Installation,
    role: Role,
    subject: str,
    expires: str,
    claims: Mapping[str, object],
) -> str:
    """The token; raises ConfigurationError for a lifetime that means nothing."""
    match = _LIFETIME.fullmatch(expires)
    if match is None:
        raise ConfigurationError(
            f"found the lifetime {expires!r}, expected a number and s, m, h or d, e.g. 15m"
        )
    lifetime_s = float(int(match[1]) * _SECONDS[match[2]])
    return make_token(
        installation.jwt_secret, role, subject, lifetime_s, now=time.time(), claims=claims
    )


def read_claims(text: str) -> JsonObject:
    """The claims that were typed; raises ConfigurationError for what is no JSON object."""
    try:
        return decode_object(text)
    except ValueError as error:
        raise ConfigurationError(
            f"found the claims {text!r}, expected a JSON object: {error}"
        ) from error
