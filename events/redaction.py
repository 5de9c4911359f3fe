"""Takes secrets out of whatever leaves for a place where others read it.

Whoever may use a secret shall not publish it. This catches what is said by mistake (an error that
quotes a header, a server that answers what it was sent); who wants to can always encode a secret
first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from events.json_codec import JsonObject, JsonValue

MASK = "[secret]"
_SHORTEST = 4


class Redaction:
    """Masks the given secrets; those of fewer than four characters would mask common text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        wanted = sorted({one for one in secrets if len(one) >= _SHORTEST}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, wanted))) if wanted else None
        encoded = [re.escape(one.encode("utf-8", "replace")) for one in wanted]
        self._data_pattern = re.compile(b"|".join(encoded)) if encoded else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def data(self, data: bytes) -> bytes:
        """The bytes without secrets in UTF-8."""
        return data if self._data_pattern is None else self._data_pattern.sub(MASK.encode(), data)

    def value(self, value: JsonValue) -> JsonValue:
        """The value without secrets in its texts."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return self.object(value)
        return value

    def object(self, value: JsonObject) -> JsonObject:
        """The object without secrets in its texts and names."""
        if self._pattern is None:
            return value
        return {self.text(name): self.value(item) for name, item in value.items()}
