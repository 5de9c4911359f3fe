"""Which topics can hold events of a pattern, told from the topic's name alone. Pure.

A change topic is `<source>.<schema>.<table>`, its types `db.<source>.<schema>.<table>.<what>`;
our own topics hold one or more whole families. A name that was cut for its length may be of any
table, so its topic is selected wherever its beginning fits.
"""

from __future__ import annotations

import re
from functools import lru_cache

from events.event_type import EventPattern, RowOperation
from events.topic import Topics

_CUT = re.compile(r"-h[0-9a-f]{16}$")
_CHANGES = tuple(operation.segment for operation in RowOperation)
_TABLE_SEGMENTS = 3


@lru_cache(maxsize=65_536)
def may_hold(topics: Topics, topic: str, pattern: EventPattern) -> bool:
    """Whether a topic can hold an event that a pattern selects."""
    families = {topics.events: ("custom", "schedule", "system"), topics.api: ("api",)}
    own = families.get(topic, ("push",) if topic == topics.push else ())
    if own:
        first = pattern.segments[0] if pattern.segments else "*"
        return first == "*" or first in own
    segments = topic.split(".")
    if any(_CUT.search(segment) for segment in segments):
        # The cut may have taken a part of any segment but the source.
        return all(
            wanted in ("*", part)
            for wanted, part in zip(pattern.segments[:2], ("db", segments[0]), strict=False)
        )
    is_reads = len(segments) > _TABLE_SEGMENTS and segments[-1] == "reads"
    table = segments[:-1] if is_reads else segments
    kinds = ("read",) if is_reads else _CHANGES
    return any(pattern.matches(".".join(("db", *table, kind))) for kind in kinds)
