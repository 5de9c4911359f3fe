"""A call of the data API as it came, read as far as no database is needed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from api.caller import Caller
from api.media import Media
from api.preferences import Preferences


@dataclass(frozen=True, slots=True)
class DataRequest:
    """One call on a table, a collection or a function.

    `schema` is empty where the client named none; `read_only` is true for GET and HEAD.
    """

    method: str
    path: str
    schema: str
    name: str
    is_function: bool
    parameters: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    media: Media
    strips_nulls: bool
    preferences: Preferences
    caller: Caller
    body: bytes

    @property
    def read_only(self) -> bool:
        """Whether the method promises to change nothing."""
        return self.method in ("GET", "HEAD")

    def in_schema(self, schema: str) -> DataRequest:
        """The same call on another schema."""
        return replace(self, schema=schema)
