"""Which topics a source has on Kafka, and whether Kafka still has all that was written there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from cdc.topic_creation import unreachable
from events.cluster import Cluster
from events.names import encode_segment

_REQUEST_TIMEOUT_MS = 20_000
_READS_SUFFIX = ".reads"


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """How many partitions a topic has; whether compaction takes records out of it."""

    partitions: int
    is_compacted: bool


async def source_topics(cluster: Cluster, source: str) -> dict[str, TopicDescription]:
    """The topics that changes of a source stand on, and those of its messages, by name.

    Raises CaptureConfigError where Kafka is not reached.
    """
    prefix = f"{encode_segment(source)}."
    # A source may have the name that is the prefix of our own topics.
    own = {*cluster.topics.compacted, *cluster.topics.partitioned}
    admin = AIOKafkaAdminClient(
        bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        await admin.start()
        names = [
            name
            for name in await admin.list_topics()
            if name.startswith(prefix) and name not in own and not name.endswith(_READS_SUFFIX)
        ]
        if not names:
            return {}
        described = await admin.describe_topics(names)
        compacted = await _compacted(admin, names)
    except (KafkaError, OSError) as error:
        raise unreachable(cluster, error) from error
    finally:
        await admin.close()
    return {
        topic["topic"]: TopicDescription(len(topic["partitions"]), topic["topic"] in compacted)
        for topic in described
    }


async def _compacted(admin: AIOKafkaAdminClient, names: Iterable[str]) -> set[str]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: set[str] = set()
    for response in await admin.describe_configs(asked):
        # Each is (error, message, kind, topic, [(setting, value, ...)]).
        resources = cast("list[tuple[object, ...]]", getattr(response, "resources", []))
        for resource in resources:
            settings = cast("list[tuple[object, ...]]", resource[4])
            if any(
                name == "cleanup.policy" and "compact" in str(value) for name, value, *_ in settings
            ):
                found.add(str(resource[3]))
    return found
