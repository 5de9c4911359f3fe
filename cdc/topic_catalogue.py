"""Which topics a source has on Kafka, and how they are set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from cdc.errors import PublishError
from cdc.topic_creation import unreachable
from events.cluster import Cluster
from events.names import encode_segment
from events.topic import is_reads_topic

_REQUEST_TIMEOUT_MS = 20_000
_SET_ON_TOPIC = 1
"""Kafka's config source DYNAMIC_TOPIC_CONFIG: what somebody set on the topic itself."""


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
    return await described_topics(
        cluster,
        lambda name: name.startswith(prefix) and name not in own and not is_reads_topic(name),
    )


async def described_topics(
    cluster: Cluster, wants: Callable[[str], bool]
) -> dict[str, TopicDescription]:
    """The topics there are of those wanted, by name; raises as source_topics."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        await admin.start()
        names = list(filter(wants, await admin.list_topics()))
        if not names:
            return {}
        described = await admin.describe_topics(names)
        settings = await topic_settings(admin, names)
    except (KafkaError, OSError) as error:
        raise unreachable(cluster, error) from error
    finally:
        await admin.close()
    return {
        topic["topic"]: TopicDescription(
            len(topic["partitions"]),
            "compact" in settings.get(topic["topic"], {}).get("cleanup.policy", ""),
        )
        for topic in described
    }


async def record_limits(cluster: Cluster, names: Iterable[str]) -> dict[str, int]:
    """The largest batch in bytes that each topic takes; those that Kafka does not tell left out.

    Raises PublishError where Kafka does not answer.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        await admin.start()
        settings = await topic_settings(admin, names)
    except (KafkaError, OSError) as error:
        raise PublishError(f"the settings of topics could not be read: {error!r}") from error
    finally:
        await admin.close()
    return {
        topic: int(value)
        for topic, values in settings.items()
        if (value := values.get("max.message.bytes", "")).isdecimal()
    }


async def topic_settings(
    admin: AIOKafkaAdminClient, names: Iterable[str], *, own: bool = False
) -> dict[str, dict[str, str]]:
    """The settings of topics, of those that may be asked for.

    With `own` only what is set on a topic itself, which altering it takes away unless said again.
    """
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    if not asked:
        return found
    for response in await admin.describe_configs(asked):
        # Each is (error, message, kind, topic, [(setting, value, read only, source, ...)]).
        resources = cast("list[tuple[object, ...]]", getattr(response, "resources", []))
        for _, _, _, topic, settings in resources:
            values = cast("list[tuple[object, ...]]", settings)
            found[str(topic)] = {
                str(name): str(value)
                for name, value, _, place, *_ in values
                if not own or place == _SET_ON_TOPIC
            }
    return found
