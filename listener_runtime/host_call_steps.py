"""Steps: what a run's effects are recorded under, so that a retry knows them again.

A step is what a call asks for (its kind, statement and parameters) and the how-manieth time the
run asks for just that. A plain count of calls would take another call for one that was made where
a retry goes another way: a listener that works through rows still to be done finds fewer of them
the second time, and the third row must not pass for the first. So a step that is found recorded
was carried out, always; one that asks for something else is carried out anew.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from events.json_codec import encode


class Steps:
    """The steps that one run has taken."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, *content: object) -> str:
        """The next step that asks for this content; raises TypeError where it is no JSON."""
        digest = hashlib.blake2b(encode(content), digest_size=12).hexdigest()
        self._taken[digest] += 1
        return f"{digest}:{self._taken[digest]}"

    def give_back(self, step: str) -> None:
        """Undo a take whose call had no effect, so that asking again is the same step."""
        self._taken[step.partition(":")[0]] -= 1


def idempotency_key(event_id: str, listener: str, step: str) -> str:
    """What tells a receiver that a repeated request is the same one."""
    text = f"{len(event_id)}:{event_id}{len(listener)}:{listener}{step}"
    return f"rc_{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
