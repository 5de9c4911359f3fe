"""A custom API as it is defined: Python that answers `/functions/v1/<name>`, and for whom.

Stands on `rowcast.definitions` as kind `api`; what a file may say is in docs/custom-apis.md. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol, get_args

import msgspec

from api.body_policy import Bodies, BodyPolicy
from api.errors import ApiDefinitionError
from events.errors import InvalidSchemaError
from events.event_schema import JsonSchema
from events.kept_definition import VersionedDefinition
from events.token import Role

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
READING: Final = frozenset(("GET", "HEAD", "DELETE"))
"""Methods whose input is the address, not a body."""
MODULES_MAX: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ROLES: Final[tuple[Role, ...]] = get_args(Role)


class CustomApi(VersionedDefinition, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One custom API; `schema` is the JSON Schema of its input, None where anything is taken."""

    code: str
    methods: tuple[str, ...] = ("POST",)
    roles: tuple[Role, ...] = ("authenticated",)
    schema: dict[str, Any] | bool | None = None
    description: str = ""
    timeout_s: float = 10.0
    cpu_s: float = 5.0
    memory_mb: int = 256
    tenant: str = "default"
    modules: tuple[str, ...] = ()
    reuse: bool = False
    recursion: int = 0
    bodies: Bodies = "none"
    redact: tuple[str, ...] = ()
    body_kb: int = 16

    @property
    def body_policy(self) -> BodyPolicy:
        """What of the bodies stands in events; raises ValueError."""
        return BodyPolicy.parse(self.bodies, self.redact, self.body_kb)

    @property
    def kind(self) -> str:
        """What stands in the record's key."""
        return "api"

    @property
    def uses(self) -> tuple[str, ...]:
        """The modules that its code imports."""
        return self.modules

    @property
    def summary(self) -> str:
        """For a list of definitions."""
        return f"{', '.join(self.methods)} /functions/v1/{self.name}"

    def allows(self, role: Role) -> bool:
        """Whether a role may call it: what anon may, everybody may; service_role may all."""
        return role == "service_role" or role in self.roles or "anon" in self.roles


def decode_custom_api(value: bytes) -> CustomApi:
    """From a record's value; raises ApiDefinitionError where it is none."""
    try:
        return check_custom_api(msgspec.json.decode(value, type=CustomApi))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiDefinitionError(f"not a custom API: {error}") from error


def check_custom_api(api: CustomApi) -> CustomApi:
    """The definition itself where every field means something; raises ApiDefinitionError."""
    if not _NAME.fullmatch(api.name):
        raise ApiDefinitionError(
            f"found api = {api.name[:80]!r}, expected letters, digits, '_' and '-', 64 at most, a "
            "letter or digit first"
        )
    _check_words("method", api.methods, METHODS)
    _check_words("role", api.roles, _ROLES)
    check_run_limits(api)
    try:
        _ = api.body_policy
    except ValueError as error:
        raise ApiDefinitionError(str(error)) from error
    if api.schema is not None:
        try:
            JsonSchema(f"the custom API {api.name}", api.schema)
        except InvalidSchemaError as error:
            raise ApiDefinitionError(str(error)) from error
    return api


class RunLimits(Protocol):
    """What code that is run for a call may use."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that it imports."""
        ...

    @property
    def timeout_s(self) -> float:
        """How long a run may take."""
        ...

    @property
    def cpu_s(self) -> float:
        """How much CPU time it may use."""
        ...

    @property
    def memory_mb(self) -> int:
        """How large its memory may be."""
        ...

    @property
    def recursion(self) -> int:
        """How often it may stand in its own chain."""
        ...


def check_run_limits(code: RunLimits) -> None:
    """Raise ApiDefinitionError for a limit that means nothing."""
    if len(set(code.modules)) < len(code.modules) or len(code.modules) > MODULES_MAX:
        raise ApiDefinitionError(
            f"found modules = {list(code.modules)}, expected {MODULES_MAX} at most, each once"
        )
    for name, value, low, high in (
        ("timeout_s", code.timeout_s, 0.001, 300),
        ("cpu_s", code.cpu_s, 0.01, 300),
        ("memory_mb", code.memory_mb, 32, 4_096),
        ("recursion", code.recursion, 0, 1_000),
    ):
        if not low <= value <= high:
            raise ApiDefinitionError(f"found {name} = {value}, expected {low:g} to {high:g}")


def _check_words(key: str, found: Sequence[str], known: Sequence[str]) -> None:
    if not found or not set(found) <= set(known) or len(set(found)) < len(found):
        raise ApiDefinitionError(
            f"found {key} = {list(found)}, expected one or several of {', '.join(known)}, each once"
        )
