"""W3C trace context: the trace of the cause goes on, each emission is a span of its own.

Source: https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re

_FORM = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-(?P<flags>[0-9a-f]{2}).*")


def is_traceparent(text: str) -> bool:
    """Whether a text is such a header's value."""
    return _FORM.fullmatch(text) is not None


def continue_trace(traceparent: str | None, random: bytes) -> str:
    """The header of a new span, of the same trace where there is one; `random` is 24 bytes."""
    match = _FORM.fullmatch(traceparent) if traceparent else None
    if match is None or match["trace"] == "0" * 32:
        return f"00-{random[8:24].hex()}-{random[:8].hex()}-01"
    return f"00-{match['trace']}-{random[:8].hex()}-{match['flags']}"
