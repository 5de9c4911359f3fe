"""How long topics of reads are kept, on a real Kafka."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import cast

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from cdc.reads_retention import hold_reads_retention
from cdc.topic_creation import MAX_RECORD_BYTES, ensure_topics
from events.cluster import Cluster
from events.topic import change_topic, reads_topic

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def settings(bootstrap: str, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        (answer,) = await admin.describe_configs(asked)
    finally:
        await admin.close()
    (resource,) = cast("list[tuple[object, ...]]", getattr(answer, "resources", []))
    values = cast("list[tuple[object, ...]]", resource[4])
    return {str(name): str(value) for name, value, *_ in values}


async def test_reads_are_kept_as_long_as_is_set_and_nothing_else_is_touched(
    kafka_bootstrap: str,
) -> None:
    source, other = (f"r{uuid.uuid4().hex[:8]}" for _ in range(2))
    unset = Cluster(kafka_bootstrap)
    old, foreign = reads_topic(source, "public", "old"), reads_topic(other, "public", "old")
    changes = change_topic(source, "public", "old")
    await ensure_topics(unset, (old, changes, foreign))
    by_default = (await settings(kafka_bootstrap, changes))["retention.ms"]
    year = replace(unset, reads_retention_ms=365 * 86_400_000)
    await hold_reads_retention(year, source)
    new = reads_topic(source, "public", "new")
    await ensure_topics(year, (new,))
    kept = await settings(kafka_bootstrap, old)
    # What was set on the topic before stays.
    assert kept["max.message.bytes"] == str(MAX_RECORD_BYTES)
    assert kept["retention.ms"] == str(365 * 86_400_000)
    assert (await settings(kafka_bootstrap, new))["retention.ms"] == str(365 * 86_400_000)
    for untouched in (changes, foreign):
        assert (await settings(kafka_bootstrap, untouched))["retention.ms"] == by_default
    await hold_reads_retention(replace(unset, reads_retention_ms=-1), source)
    assert (await settings(kafka_bootstrap, old))["retention.ms"] == "-1"
    await hold_reads_retention(unset, source)
    assert (await settings(kafka_bootstrap, old))["retention.ms"] == "-1"
