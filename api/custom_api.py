"""A custom API as it is defined: Python that answers `/functions/v1/<name>`, and for whom.

Stands on `rowcast.definitions` as kind `api`; what a file may say is in docs/custom-apis.md. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec

from api.body_policy import Bodies, BodyPolicy
from api.caller import role_may
from api.code_definition import CodeDefinition
from api.errors import ApiDefinitionError
from events.errors import InvalidSchemaError
from events.event_schema import JsonSchema
from events.token import Role

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
READING: Final = frozenset(("GET", "HEAD", "DELETE"))
"""Methods whose input is the address, not a body."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ROLES: Final[tuple[Role, ...]] = get_args(Role)


class CustomApi(CodeDefinition, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One custom API; `schema` is the JSON Schema of its input, None where anything is taken."""

    methods: tuple[str, ...] = ("POST",)
    roles: tuple[Role, ...] = ("authenticated",)
    schema: dict[str, Any] | bool | None = None
    description: str = ""
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
    def summary(self) -> str:
        """For a list of definitions."""
        return f"{', '.join(self.methods)} /functions/v1/{self.name}"

    def allows(self, role: Role) -> bool:
        """Whether a role may call it: what anon may, everybody may; service_role may all."""
        return role_may(role, self.roles)


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
    api.check_limits()
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


def _check_words(key: str, found: Sequence[str], known: Sequence[str]) -> None:
    if not found or not set(found) <= set(known) or len(set(found)) < len(found):
        raise ApiDefinitionError(
            f"found {key} = {list(found)}, expected one or several of {', '.join(known)}, each once"
        )
