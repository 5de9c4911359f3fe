"""The room's exceptions; their tree is drawn in the package's docstring."""

from __future__ import annotations

from typing import TypeAlias

Ref: TypeAlias = "str | int | None"


class PushError(Exception):
    """A client cannot be given what it asks for."""


class MessageError(PushError):
    """A client's message that means nothing; `ref` is the message's own, where it has one."""

    def __init__(self, code: str, message: str, ref: Ref = None) -> None:
        super().__init__(message)
        self.code = code
        self.ref = ref


class UnavailableError(PushError):
    """Kafka is not reached; nothing is lost, the client asks again."""
