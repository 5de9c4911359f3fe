"""Topics made where they are missing, by whoever writes to them first.

Made, never changed: an existing topic keeps the partitions and settings its operator gave it,
but for the retention of reads (reads_retention.py).
Two captures that make the same topic at once both succeed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from cdc.errors import CaptureConfigError, PublishError
from events.cluster import Cluster
from events.topic import is_reads_topic

_log = logging.getLogger(__name__)

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Largest record that capture writes, and `max.message.bytes` of the topics it makes."""

_SCHEMA_HISTORY_MS = 7 * 24 * 3_600 * 1_000
_REQUEST_TIMEOUT_MS = 20_000
_VISIBLE_TIMEOUT_S = 15.0
_VISIBLE_POLL_S = 0.02


async def ensure_topics(cluster: Cluster, names: Collection[str]) -> None:
    """Make the topics that are missing, with the installation's partitions.

    Returns once brokers know them. Raises CaptureConfigError where Kafka is not reached and
    PublishError where it refuses.
    """
    await _ensure(cluster, [_change_topic(cluster, name) for name in sorted(set(names))])


async def ensure_own_topics(cluster: Cluster) -> None:
    """Make the installation's own topics where they are missing; raises as ensure_topics."""
    compacted = [_compacted_topic(cluster, name) for name in cluster.topics.compacted]
    others = [
        _change_topic(cluster, name) if name != cluster.topics.schema else _schema_topic(cluster)
        for name in cluster.topics.partitioned
    ]
    await _ensure(cluster, compacted + others)


def unreachable(cluster: Cluster, error: Exception) -> CaptureConfigError:
    """The error for a Kafka that does not answer."""
    return CaptureConfigError(
        found=f"no answer from Kafka at {cluster.bootstrap} ({error or type(error).__name__})",
        expected="a Kafka broker that this machine can connect to",
        mend="start Kafka, or set kafka.bootstrap in rowcast.toml to its host:port",
    )


def _change_topic(cluster: Cluster, name: str) -> NewTopic:
    configs = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    if is_reads_topic(name) and cluster.reads_retention_ms is not None:
        configs["retention.ms"] = str(cluster.reads_retention_ms)
    return NewTopic(name, cluster.partitions_of(name), cluster.replication, topic_configs=configs)


def _schema_topic(cluster: Cluster) -> NewTopic:
    """Keeps every event for a time, and how each table looks for ever."""
    configs = {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(_SCHEMA_HISTORY_MS),
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    return NewTopic(
        cluster.topics.schema, cluster.partitions, cluster.replication, topic_configs=configs
    )


def _compacted_topic(cluster: Cluster, name: str) -> NewTopic:
    configs = {"cleanup.policy": "compact", "max.message.bytes": str(MAX_RECORD_BYTES)}
    return NewTopic(name, 1, cluster.replication, topic_configs=configs)


async def _ensure(cluster: Cluster, topics: list[NewTopic]) -> None:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise unreachable(cluster, error) from error
    try:
        present = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in present]
        if not missing:
            return
        answer = await admin.create_topics(missing)
        for name, code, *rest in answer.topic_errors:
            error = for_code(code)
            if code != 0 and error is not TopicAlreadyExistsError:
                raise PublishError(
                    f"the topic {name} could not be created: {error.__name__}"
                    f"{f' ({rest[0]})' if rest and rest[0] else ''}; the broker must allow "
                    f"{cluster.partitions} partitions with replication factor "
                    f"{cluster.replication} (kafka.partitions and kafka.replication in "
                    "rowcast.toml), or create the topic yourself"
                )
        await _until_visible(admin, {topic.name for topic in missing})
    except (KafkaError, OSError) as error:
        raise PublishError(f"topics could not be created: {error!r}") from error
    finally:
        await admin.close()
    _log.info("created the topics %s", ", ".join(topic.name for topic in missing))


async def _until_visible(admin: AIOKafkaAdminClient, names: set[str]) -> None:
    """Wait for the brokers' metadata, which follows the controller's answer by milliseconds."""
    try:
        async with asyncio.timeout(_VISIBLE_TIMEOUT_S):
            while names - set(await admin.list_topics()):
                await asyncio.sleep(_VISIBLE_POLL_S)
    except TimeoutError as error:
        raise PublishError(
            f"{len(names)} topics were created but Kafka did not show them within "
            f"{_VISIBLE_TIMEOUT_S:.0f} s; look at its controller's log"
        ) from error
