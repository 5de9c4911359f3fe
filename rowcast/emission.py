"""`rowcast emit`: a custom event from the command line."""

from __future__ import annotations

import secrets
import time

from events.event import make_event
from events.event_type import check_custom_type
from events.json_codec import decode
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation
from rowcast.kafka_access import write_record


async def emit_event(
    installation: Installation, event_type: str, data: str, key: str | None
) -> str:
    """Write the event to Kafka and return its id.

    Raises InvalidNameError for a type that is not `custom.<name>`, ConfigurationError for data
    that is not JSON, InvalidDataError for data against its schema, NotRunningError where Kafka is
    not there.
    """
    check_custom_type(event_type)
    try:
        value = decode(data)
    except ValueError as error:
        raise ConfigurationError(
            f"found the data {data!r}, expected JSON: {error}. In a shell, put it in single "
            """quotes: '{"to": "world"}'"""
        ) from error
    installation.event_schemas().check(event_type, value)
    cluster = installation.cluster
    event = make_event(
        event_id=f"ev_{secrets.token_hex(16)}",
        event_type=event_type,
        data=value,
        ts_ms=int(time.time() * 1_000),
        key=key,
    )
    await write_record(cluster, cluster.topics.events, event.key, event.value)
    return event.id
