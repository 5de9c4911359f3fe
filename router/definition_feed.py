"""The definitions as they stand on Kafka, followed while they change.

Read whole before the first event is routed, so that none is routed by half of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from aiokafka import ConsumerRecord

from events.cluster import Cluster
from events.kept_definition import kind_of_key
from router.clockwork import by_the_clock
from router.compacted_topic import CompactedTopic
from router.definition import Definition, decode_definition
from router.errors import DefinitionError
from router.listener import ListenerIndex
from router.module import Module, decode_module

_log = logging.getLogger(__name__)


class DefinitionFeed:
    """Calls `on_change(index)` with all enabled listeners, first once all were read."""

    def __init__(self, cluster: Cluster, on_change: Callable[[ListenerIndex], None]) -> None:
        self._on_change = on_change
        self._definitions: dict[bytes, Definition] = {}
        self._by_the_clock: Mapping[str, Definition] = {}
        self._modules: dict[str, Module] = {}
        self._module_names: dict[bytes, str] = {}
        self._topic = CompactedTopic(
            cluster, cluster.topics.definitions, "definitions", self._take_record
        )

    @property
    def modules(self) -> Mapping[str, Module]:
        """The modules as they are now, by name."""
        return self._modules

    @property
    def by_the_clock(self) -> Mapping[str, Definition]:
        """Definitions that run by the clock; another object whenever definitions change."""
        return self._by_the_clock

    async def start(self) -> None:
        """Read all definitions there are."""
        await self._topic.read_whole()
        self._publish()

    async def run(self) -> None:
        """Follow changes until cancelled."""
        while True:
            if await self._topic.read_more():
                self._publish()

    async def close(self) -> None:
        """Stop reading."""
        await self._topic.close()

    def _take_record(self, record: ConsumerRecord) -> None:
        if record.key is not None:
            self._take(record.key, record.value)

    def _take(self, key: bytes, value: bytes | None) -> None:
        kind = kind_of_key(key)
        if kind == "module":
            self._take_module(key, value)
            return
        if kind != "listener":
            return  # served by others
        if value is None:
            self._definitions.pop(key, None)
            return
        try:
            self._definitions[key] = decode_definition(value)
        except DefinitionError as error:
            # The version before stays in force: a mistake in one must not silence it.
            _log.error("the definition %s is not used: %s", key.decode("utf-8", "replace"), error)

    def _take_module(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._modules.pop(self._module_names.pop(key, ""), None)
            return
        try:
            module = decode_module(value)
        except DefinitionError as error:
            _log.error("the module %s is not used: %s", key.decode("utf-8", "replace"), error)
            return
        self._modules[module.name] = module
        self._module_names[key] = module.name

    def _publish(self) -> None:
        enabled = sum(definition.enabled for definition in self._definitions.values())
        _log.info("%d listeners, %d enabled", len(self._definitions), enabled)
        self._by_the_clock = by_the_clock(self._definitions.values())
        self._on_change(ListenerIndex(list(self._definitions.values())))
