"""The definitions as they stand on Kafka, followed while they change.

Read whole before the first event is routed, so that none is routed by half of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from events.cluster import Cluster
from router.definition import Definition, decode_definition
from router.errors import DefinitionError, RoutingStoppedError
from router.listener import ListenerIndex
from router.module import Module, decode_module, is_module_key

_log = logging.getLogger(__name__)


class DefinitionFeed:
    """Calls `on_change(index)` with all enabled listeners, first once all were read."""

    def __init__(self, cluster: Cluster, on_change: Callable[[ListenerIndex], None]) -> None:
        self._partition = TopicPartition(cluster.topics.definitions, 0)
        self._on_change = on_change
        self._definitions: dict[bytes, Definition] = {}
        self._modules: dict[str, Module] = {}
        self._module_names: dict[bytes, str] = {}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=cluster.bootstrap,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    @property
    def modules(self) -> Mapping[str, Module]:
        """The modules as they are now, by name."""
        return self._modules

    async def start(self) -> None:
        """Read all definitions there are."""
        try:
            await self._consumer.start()
            self._consumer.assign([self._partition])
            ends = await self._consumer.end_offsets([self._partition])
            while await self._consumer.position(self._partition) < ends[self._partition]:
                await self._read(timeout_ms=200)
        except KafkaError as error:
            await self._consumer.stop()
            raise RoutingStoppedError(f"the definitions cannot be read: {error!r}") from error
        self._publish()

    async def run(self) -> None:
        """Follow changes until cancelled."""
        while True:
            try:
                changed = await self._read(timeout_ms=1_000)
            except KafkaError as error:
                raise RoutingStoppedError(f"definitions cannot be followed: {error!r}") from error
            if changed:
                self._publish()

    async def close(self) -> None:
        """Stop reading."""
        await self._consumer.stop()

    async def _read(self, timeout_ms: int) -> bool:
        batches = await self._consumer.getmany(timeout_ms=timeout_ms)
        for records in batches.values():
            for record in records:
                if record.key is not None:
                    self._take(record.key, record.value)
        return bool(batches)

    def _take(self, key: bytes, value: bytes | None) -> None:
        if is_module_key(key):
            self._take_module(key, value)
            return
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
        self._on_change(ListenerIndex(list(self._definitions.values())))
