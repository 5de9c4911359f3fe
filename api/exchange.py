"""HTTP as ASGI has it: the headers and body of a request, and an answer with what browsers need."""

from __future__ import annotations

from typing import Final

from starlette.types import Receive, Scope, Send

from api.answer import Answer
from api.errors import ApiError

_EXPOSED: Final = (
    b"content-range, content-location, location, preference-applied, rowcast-call, retry-after"
)
_SHARED: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", _EXPOSED),
)
_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class ClientGoneError(Exception):
    """The client ended the connection before its request was whole."""


def read_headers(scope: Scope) -> dict[str, str]:
    """Headers by their names in lower case; values of one name are joined by commas."""
    found: dict[str, str] = {}
    for name_bytes, value_bytes in scope["headers"]:
        name, value = name_bytes.decode("latin-1"), value_bytes.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def read_request_body(receive: Receive, headers: dict[str, str], limit: int) -> bytes:
    """The whole body; raises ApiError (413) beyond the limit in bytes."""
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def send_answer(
    send: Send, answer: Answer, headers: dict[str, str], call_id: str, *, with_body: bool
) -> None:
    """The answer; a browser's page of another origin may read it too."""
    out = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in answer.headers
    ]
    out.append((b"rowcast-call", call_id.encode()))
    if answer.content_type is not None:
        out.append((b"content-type", answer.content_type.encode()))
    if answer.status not in (204, 304):
        out.append((b"content-length", b"%d" % len(answer.body)))
    if "origin" in headers:
        # What a custom API says for itself stands.
        said = {name for name, _ in answer.headers}
        out += [(name, value) for name, value in _SHARED if name.decode() not in said]
    await send({"type": "http.response.start", "status": answer.status, "headers": out})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


async def send_options(send: Send, allowed: bytes, headers: dict[str, str]) -> None:
    """The answer to OPTIONS, a browser's question before a call (CORS) among them."""
    asked = headers.get("access-control-request-headers", "*").encode("latin-1", "replace")
    out = [
        (b"allow", allowed),
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", asked),
        (b"access-control-max-age", b"86400"),
        (b"content-length", b"0"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": out})
    await send({"type": "http.response.body", "body": b""})


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        "RC413",
        f"The request's body is larger than {limit} bytes",
        hint="Send fewer rows at once; http.body_mb sets the limit",
        headers=(("connection", "close"),),
    )
