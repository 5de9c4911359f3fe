"""What the HTTP side asks of whoever runs code for it: custom APIs and hooks.

Only values and a protocol: `rowcast/` brings the sandbox and what a run leaves on Kafka. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from api.code_definition import CodeDefinition
from events.chain import Chain
from events.outgoing_record import OutgoingRecord
from events.run import RunOutcome


@dataclass(frozen=True, slots=True)
class CodeRun:
    """One run for one call; `argument` is the JSON object that `main` is given first.

    `chain` is the caller's, None where it begins here; `modules` are names and code.
    """

    code: CodeDefinition
    call_id: str
    event_type: str
    argument: bytes
    chain: Chain | None
    traceparent: str | None
    modules: tuple[tuple[str, str], ...]

    @property
    def is_cycle(self) -> bool:
        """Whether the code stands in the chain more often than it allows."""
        name = self.code.name
        return self.chain is not None and self.chain.visits(name) > self.code.recursion


class CodeRunner(Protocol):
    """The sandbox, and what its runs leave."""

    async def run(self, run: CodeRun) -> RunOutcome:
        """Run to its end; raises nothing for what the code does."""
        ...

    def records(self, run: CodeRun, outcome: RunOutcome, started_ms: int) -> list[OutgoingRecord]:
        """What a run leaves on Kafka: its record, and what it emitted where it ended well.

        Raises UnwritableError where that cannot be written.
        """
        ...

    def cycle_records(self, run: CodeRun, now_ms: int) -> list[OutgoingRecord]:
        """What a run that is not run leaves."""
        ...

    def kept(
        self,
        run: CodeRun,
        outcome: RunOutcome,
        records: Sequence[OutgoingRecord],
        offsets: list[int],
    ) -> None:
        """Take in the state (`g.kv`) of a run whose records are committed at these offsets."""
        ...


class UnwritableError(Exception):
    """What a run leaves cannot be written to Kafka; the message says why."""
