"""Follows `rowcast.definitions` for the HTTP service, into the table that api/ serves from.

A Kafka that is away is waited for: what was read before stays in force meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from api.definition_table import DefinitionTable
from events.cluster import Cluster
from events.kept_definition import KeptDefinition, kind_of_key
from router.compacted_topic import CompactedTopic
from router.errors import DefinitionError, RoutingStoppedError
from router.module import Module
from rowcast.definition_kinds import KINDS, decode_record

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_SERVED = frozenset(kind.name for kind in KINDS if kind.served)


class ServedDefinitions:
    """Keeps `table` as the topic is."""

    def __init__(self, cluster: Cluster, table: DefinitionTable) -> None:
        self._cluster = cluster
        self._table = table
        self._present: dict[bytes, KeptDefinition] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read; whoever needs the definitions waits for the table."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            topic = CompactedTopic(
                self._cluster, self._cluster.topics.definitions, "definitions", self._take
            )
            try:
                # Anew from the beginning: what was deleted while Kafka was away must go.
                self._present.clear()
                await topic.read_whole()
                self._publish()
                while True:
                    if await topic.read_more():
                        self._publish()
            except RoutingStoppedError as error:
                _log.warning("%s; trying again", error)
            except Exception:  # noqa: BLE001 - a mistake of ours must not end it for good
                _log.exception("following the definitions failed; trying again")
            finally:
                with contextlib.suppress(KafkaError, OSError):
                    await topic.close()
            await asyncio.sleep(_RETRY_S)

    def _take(self, record: ConsumerRecord) -> None:
        key = record.key or b""
        if kind_of_key(key) not in _SERVED:
            return
        if record.value is None:
            self._present.pop(key, None)
            return
        try:
            one = decode_record(key, record.value)
        except DefinitionError as error:
            # The version before stays in force: a mistake in one must not silence it.
            _log.error("the definition %s is not used: %s", key.decode("utf-8", "replace"), error)
            return
        if one is not None:
            self._present[key] = one

    def _publish(self) -> None:
        modules = {one.name: one.code for one in self._present.values() if isinstance(one, Module)}
        self._table.replace(self._present.values(), modules)
