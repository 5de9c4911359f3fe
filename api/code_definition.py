"""What definitions have in common whose Python is run for a call: its code and what a run may use.

Pure.
"""

from __future__ import annotations

from typing import Final

from api.errors import ApiDefinitionError
from events.kept_definition import VersionedDefinition

MODULES_MAX: Final = 20


class CodeDefinition(VersionedDefinition, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A base for custom APIs and hooks; `code` is the whole file."""

    code: str
    timeout_s: float = 10.0
    cpu_s: float = 5.0
    memory_mb: int = 256
    tenant: str = "default"
    modules: tuple[str, ...] = ()
    reuse: bool = False
    recursion: int = 0

    @property
    def uses(self) -> tuple[str, ...]:
        """The modules that its code imports."""
        return self.modules

    def check_limits(self) -> None:
        """Raise ApiDefinitionError for a limit that means nothing."""
        if len(set(self.modules)) < len(self.modules) or len(self.modules) > MODULES_MAX:
            raise ApiDefinitionError(
                f"found modules = {list(self.modules)}, expected {MODULES_MAX} at most, each once"
            )
        for name, value, low, high in (
            ("timeout_s", self.timeout_s, 0.001, 300),
            ("cpu_s", self.cpu_s, 0.01, 300),
            ("memory_mb", self.memory_mb, 32, 4_096),
            ("recursion", self.recursion, 0, 1_000),
        ):
            if not low <= value <= high:
                raise ApiDefinitionError(f"found {name} = {value}, expected {low:g} to {high:g}")
