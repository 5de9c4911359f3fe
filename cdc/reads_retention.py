"""How long topics of reads are kept, held to the installation's setting.

A new topic is made with it; those that are there are changed where a capture starts under another
setting than before. Without the setting they keep what their operator gave them.
"""

from __future__ import annotations

import logging
from typing import Final, cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from cdc.errors import PublishError
from cdc.topic_catalogue import topic_settings
from events.cluster import Cluster
from events.names import encode_segment
from events.topic import is_reads_topic

_log = logging.getLogger(__name__)

RETENTION: Final = "retention.ms"
_REQUEST_TIMEOUT_MS: Final = 20_000


async def hold_reads_retention(cluster: Cluster, source: str) -> None:
    """Give every topic of a source's reads the retention that is set; none set leaves them.

    Raises PublishError where Kafka does not take it.
    """
    if cluster.reads_retention_ms is None:
        return
    wanted = str(cluster.reads_retention_ms)
    prefix = f"{encode_segment(source)}."
    admin = AIOKafkaAdminClient(
        bootstrap_servers=cluster.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS
    )
    try:
        await admin.start()
        names = [
            name
            for name in await admin.list_topics()
            if name.startswith(prefix) and is_reads_topic(name)
        ]
        changed = [
            ConfigResource(ConfigResourceType.TOPIC, name, configs={**values, RETENTION: wanted})
            for name, values in (await topic_settings(admin, names, own=True)).items()
            if values.get(RETENTION) != wanted
        ]
        if changed:
            await _alter(admin, changed)
            _log.info("%s topics of reads are kept for %s ms from now on", len(changed), wanted)
    except (KafkaError, OSError) as error:
        raise PublishError(f"the retention of topics of reads was not set: {error!r}") from error
    finally:
        await admin.close()


async def _alter(admin: AIOKafkaAdminClient, changed: list[ConfigResource]) -> None:
    for response in await admin.alter_configs(changed):
        resources = cast("list[tuple[object, ...]]", getattr(response, "resources", []))
        for code, message, _, topic in resources:
            if code:
                name = for_code(cast("int", code)).__name__
                raise PublishError(
                    f"the retention of {topic} was not set: {name} ({message}); the user of Kafka "
                    "needs the right to alter topics, or take kafka.reads_retention_h away"
                )
