"""The definitions that the HTTP side serves, as they stand on Kafka now.

Whoever starts the service follows the topic and puts them here, whole at each change; whoever
serves a kind asks for its type: `table.of(CustomApi)`. Until they were read once nothing can be
known of hooks and custom APIs, so calls wait for it, and are refused when it takes too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

from api.errors import ApiError
from events.kept_definition import KeptDefinition

_READ_WAIT_S = 5.0

Kind = TypeVar("Kind", bound=KeptDefinition)


class DefinitionTable:
    """Enabled definitions by type and name."""

    def __init__(self) -> None:
        self._by_type: dict[type, dict[str, KeptDefinition]] = {}
        self._modules: Mapping[str, str] = {}
        self._read = asyncio.Event()
        self._watching: list[Callable[[], None]] = []

    @property
    def modules(self) -> Mapping[str, str]:
        """The code of modules by name."""
        return self._modules

    @property
    def is_read(self) -> bool:
        """Whether the definitions were read at all."""
        return self._read.is_set()

    def of(self, kind: type[Kind]) -> Mapping[str, Kind]:
        """The definitions of one kind by name; another object after each change."""
        return cast("Mapping[str, Kind]", self._by_type.get(kind, {}))

    def replace(self, definitions: Iterable[KeptDefinition], modules: Mapping[str, str]) -> None:
        """Take in all that there are now."""
        found: dict[type, dict[str, KeptDefinition]] = {}
        for one in definitions:
            if one.enabled:
                found.setdefault(type(one), {})[one.name] = one
        self._by_type = found
        self._modules = dict(modules)
        self._read.set()
        for told in self._watching:
            told()

    def watch(self, told: Callable[[], None]) -> None:
        """Have a function called after each change, at once where there was one already."""
        self._watching.append(told)
        if self.is_read:
            told()

    async def when_read(self) -> None:
        """Wait for the first reading; raises ApiError (503) where it takes too long."""
        if self._read.is_set():
            return
        try:
            async with asyncio.timeout(_READ_WAIT_S):
                await self._read.wait()
        except TimeoutError as error:
            raise ApiError(
                503,
                "RC001",
                "The definitions were not read from Kafka yet, so the call was refused",
                hint="Nothing was changed; repeat the call when Kafka is back",
                headers=(("retry-after", "2"),),
            ) from error
