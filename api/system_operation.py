"""An operation of the system API as a value: its name, address, typed arguments and answer.

Whoever serves it and whoever calls it build on the same value, so that the two cannot differ. The
arguments are the fields of a struct: those that the path names stand in it, the others in the
query of a GET or DELETE and in the JSON body of a POST or PUT. Pure.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar
from urllib.parse import quote, unquote

import msgspec

from api.errors import ApiError
from events.json_codec import JsonObject, decode_object

Arguments = TypeVar("Arguments", bound=msgspec.Struct)
Result = TypeVar("Result")
Arguments_co = TypeVar("Arguments_co", bound=msgspec.Struct, covariant=True)
Result_co = TypeVar("Result_co", covariant=True)

PREFIX: Final = "/admin/v1"


class NoArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an operation that takes none."""


@dataclass(frozen=True, slots=True)
class SystemOperation(Generic[Arguments_co, Result_co]):
    """`told` names what of a body stands in the call's event: never what may be secret or large."""

    name: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    arguments: type[Arguments_co]
    result: type[Result_co]
    told: tuple[str, ...] = ()
    status: int = 200

    @property
    def has_body(self) -> bool:
        """Whether arguments come in a body."""
        return self.method in ("POST", "PUT")

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments; `{name}` stands for an argument."""
        return tuple(self.path.strip("/").split("/"))

    @property
    def path_names(self) -> tuple[str, ...]:
        """The arguments that stand in the path."""
        return tuple(one[1:-1] for one in self.segments if one.startswith("{"))

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The arguments that a path's segments hold, percent-encoded as they came; None if none."""
        own = self.segments
        if len(own) != len(segments):
            return None
        found: dict[str, str] = {}
        for wanted, given in zip(own, segments, strict=True):
            if wanted.startswith("{"):
                found[wanted[1:-1]] = unquote(given)
            elif wanted != given:
                return None
        return found

    def address(self, arguments: msgspec.Struct) -> tuple[str, dict[str, str], JsonObject | None]:
        """Path, query and body that carry arguments."""
        fields: JsonObject = msgspec.to_builtins(arguments)
        path = PREFIX + self.path
        for name in self.path_names:
            path = path.replace(f"{{{name}}}", quote(str(fields.pop(name)), safe=""))
        given: JsonObject = {name: one for name, one in fields.items() if one is not None}
        if self.has_body:
            return path, {}, given
        return path, {name: _query_text(value) for name, value in given.items()}, None


@dataclass(frozen=True, slots=True)
class ServedOperation:
    """An operation and who carries it out: arguments in, JSON out."""

    operation: SystemOperation[msgspec.Struct, object]
    carry_out: Callable[[Mapping[str, object]], Awaitable[bytes]]


def serve(
    operation: SystemOperation[Arguments, Result],
    carry_out: Callable[[Arguments], Awaitable[Result]],
) -> ServedOperation:
    """The operation with what does it."""

    async def carried(given: Mapping[str, object]) -> bytes:
        try:
            # What stands in a path or a query is text; in a body a number is a number.
            arguments = msgspec.convert(given, operation.arguments, strict=operation.has_body)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ApiError(
                400,
                "RC400",
                f"The arguments of {operation.name} are not as expected: {error}",
                hint=f"GET {PREFIX}/ describes them",
            ) from error
        return msgspec.json.encode(await carry_out(arguments))

    return ServedOperation(operation, carried)


def read_body(body: bytes) -> JsonObject:
    """The arguments in a body; raises ApiError (400) where it is no JSON object."""
    if not body.strip():
        return {}
    try:
        return decode_object(body)
    except ValueError as error:
        raise ApiError(400, "PGRST102", "Empty or invalid json", details=str(error)) from error


def _query_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
