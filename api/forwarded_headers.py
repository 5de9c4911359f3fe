"""Which headers go to a third-party API and which come back from it. Pure.

To it: a short list of what describes the call's content, and what the definition adds; so who the
caller is (Authorization, cookies), framing, hop-by-hop headers and overrides of host or method
never are a question. Back from it: all but what is between the two servers, or would speak to the
caller's client in our name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

HeaderList: TypeAlias = "tuple[tuple[str, str], ...]"

_FORWARDED: Final = (
    *("accept", "accept-language", "content-type", "content-language", "idempotency-key"),
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "prefer"),
)
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_NOT_RETURNED: Final = frozenset(
    (
        # between the two servers (RFC 9110, 7.6.1), or made anew by ours
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"),
        *("upgrade", "content-length", "content-encoding", "proxy-authenticate", "date", "server"),
        *("proxy-authorization", "proxy-authentication-info", "authentication-info"),
        # what a client would take as said by our origin
        *("set-cookie", "set-cookie2", "www-authenticate", "strict-transport-security", "alt-svc"),
        *("public-key-pins", "clear-site-data", "refresh", "service-worker-allowed", "nel"),
        *("report-to", "reporting-endpoints", "expect-ct", "content-security-policy"),
        *("access-control-allow-origin", "access-control-allow-credentials"),
        *("access-control-allow-headers", "access-control-allow-methods"),
        *("access-control-expose-headers", "access-control-max-age"),
        *("rowcast-call", "rowcast-chain"),
    )
)


def forwarded(headers: Mapping[str, str], more: Iterable[str]) -> HeaderList:
    """Those headers of a call (names in lower case) that are sent on; `more` names others.

    Raises ValueError with the name of one that headers cannot carry.
    """
    wanted = dict.fromkeys((*_FORWARDED, *(name.lower() for name in more)))
    found = tuple((name, headers[name].strip(" \t")) for name in wanted if name in headers)
    for name, value in found:
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(name)
    return found


def returned(headers: Sequence[tuple[str, str]]) -> HeaderList:
    """Those headers of an answer (names in lower case) that the caller is given."""
    hop_by_hop = {
        token.strip().lower()
        for name, value in headers
        if name == "connection"
        for token in value.split(",")
    }
    return tuple(
        (name, value)
        for name, value in headers
        if name not in _NOT_RETURNED and name not in hop_by_hop
    )


def header(headers: Sequence[tuple[str, str]], name: str) -> str:
    """The values of a header, joined; empty where there is none."""
    return ", ".join(value for key, value in headers if key == name)
