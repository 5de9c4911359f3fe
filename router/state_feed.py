"""Reads listeners' state from `rowcast.kv` into the table: whole before the first event is
routed, then what other routers write.
"""

from __future__ import annotations

import logging

from aiokafka import ConsumerRecord

from events.cluster import Cluster
from router.compacted_topic import CompactedTopic
from router.errors import StateError
from router.state_table import StateTable

_log = logging.getLogger(__name__)


class StateFeed:
    """Follows the topic into `table`."""

    def __init__(self, cluster: Cluster, table: StateTable) -> None:
        self._table = table
        self._topic = CompactedTopic(cluster, cluster.topics.kv, "listeners' state", self._take)

    async def start(self) -> None:
        """Read all that there is."""
        await self._topic.read_whole()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._topic.read_more()

    async def close(self) -> None:
        """Stop reading."""
        await self._topic.close()

    def _take(self, record: ConsumerRecord) -> None:
        try:
            self._table.read(record.key or b"", record.value, record.offset)
        except StateError as error:
            _log.error("a record of listeners' state is passed over: %s", error)
