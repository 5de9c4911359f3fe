"""A chain on its way over HTTP from a listener into our own APIs, signed so that they can trust it.

Pure. The header `rowcast-chain` is `PAYLOAD.SIGNATURE`, both in base64url: the payload is the
chain's JSON with `at_ms`, when it was signed, the signature HMAC-SHA256 with a key that is made of
the installation's secret for this use alone. Whoever may call our APIs could else begin a chain
of its own making, stop a listener by naming it in the path or slip out of the cycle stop.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from events.chain import CHAIN_HEADER, Chain
from events.errors import EventFormatError
from events.json_codec import decode_object, encode

MAX_CHARS: Final = 16_000
"""HTTP servers refuse headers that are much larger."""

MAX_AGE_MS: Final = 300_000
_PURPOSE: Final = b"rowcast-chain over HTTP, version 1"


def sign_chain(chain: Chain, secret: str, now_ms: int) -> str:
    """The header's value; raises EventFormatError where a chain is too long for a header."""
    payload = encode({"root": chain.root, "path": list(chain.path), "at_ms": now_ms})
    signed = f"{_encoded(payload)}.{_encoded(_signature(payload, secret))}"
    if len(signed) > MAX_CHARS:
        raise EventFormatError(
            f"found a chain of {len(chain.path):,} listeners, which no HTTP header holds: "
            f"{len(signed):,} characters, expected {MAX_CHARS:,} at most"
        )
    return signed


def verify_chain(header: str, secret: str, now_ms: int) -> Chain:
    """The chain that a header holds; raises EventFormatError unless we signed it just now."""
    if len(header) > MAX_CHARS:
        raise _refused(f"{len(header):,} characters, expected {MAX_CHARS:,} at most")
    encoded, _, signature = header.partition(".")
    try:
        payload, given = _decoded(encoded), _decoded(signature)
    except (binascii.Error, ValueError) as error:
        raise _refused("no PAYLOAD.SIGNATURE in base64url") from error
    if not hmac.compare_digest(_signature(payload, secret), given):
        raise _refused("a signature that is not this installation's")
    at_ms = decode_object(payload).get("at_ms")
    if not isinstance(at_ms, int) or abs(now_ms - at_ms) > MAX_AGE_MS:
        raise _refused(
            f"one signed at {at_ms}, expected {MAX_AGE_MS // 60_000} minutes ago at most"
        )
    return Chain.decode(payload)


def _signature(payload: bytes, secret: str) -> bytes:
    key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
    return hmac.digest(key, payload, hashlib.sha256)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    raw = text.encode("ascii")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)


def _refused(found: str) -> EventFormatError:
    return EventFormatError(f"the header {CHAIN_HEADER} holds {found}")
