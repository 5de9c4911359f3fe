"""The room's exceptions; their tree is drawn in the package's docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from events.kept_definition import KeptDefinition


class RouterError(Exception):
    """Routing cannot go on as asked."""


class DefinitionError(RouterError):
    """A definition that means nothing."""


class WhereError(DefinitionError):
    """A filter that means nothing."""


class CodeSyntaxError(DefinitionError):
    """Code that this Python cannot read; `definition` is what it would be if another can."""

    def __init__(self, message: str, definition: KeptDefinition) -> None:
        super().__init__(message)
        self.definition = definition


class ScheduleError(RouterError):
    """A record of the schedules that means nothing."""


class StateError(RouterError):
    """A record of listeners' state that means nothing."""


class RoutingStoppedError(RouterError):
    """Kafka failed or another router took over; all that matters is on Kafka, start again."""
