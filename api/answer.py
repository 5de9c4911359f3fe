"""What a call is answered, before it is HTTP. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from api.errors import ApiError
from events.json_codec import encode

JSON = "application/json; charset=utf-8"
SINGLE_JSON = "application/vnd.pgrst.object+json; charset=utf-8"
CSV = "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body; `content_type` is None where there is no body to speak of."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


def error_answer(error: ApiError) -> Answer:
    """The answer that an error is."""
    return Answer(error.status, encode(error.body()), JSON, error.headers)
