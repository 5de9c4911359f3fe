"""Operations on what waits to be emitted, once or again and again."""

from __future__ import annotations

import contextlib
from typing import Annotated, Final

import msgspec

from api.system_operation import NoArguments, SystemOperation
from router.errors import ScheduleError
from router.schedule import Cancellation, ScheduledEvent, Timetable
from rowcast.errors import ConfigurationError, NotFoundError
from rowcast.installation import Installation
from rowcast.kafka_access import read_topic, write_record


class ScheduleArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One schedule by its id."""

    id: Annotated[str, msgspec.Meta(description="id of a schedule")]


class Cancelled(msgspec.Struct, frozen=True):
    """What is not emitted any more."""

    id: str
    type: str
    due_ms: int


LIST_SCHEDULES: Final = SystemOperation(
    "list_schedules",
    "GET",
    "/schedules",
    "What waits to be emitted, the next first",
    NoArguments,
    list[ScheduledEvent],
)
CANCEL_SCHEDULE: Final = SystemOperation(
    "cancel_schedule",
    "DELETE",
    "/schedules/{id}",
    "Emit it no more",
    ScheduleArguments,
    Cancelled,
)


async def list_schedules(
    installation: Installation, _arguments: NoArguments
) -> list[ScheduledEvent]:
    """All that is pending."""
    table = Timetable()
    for record in await read_topic(installation.cluster, installation.cluster.topics.schedules):
        if record.key is not None:
            # The scheduler says what it passes over.
            with contextlib.suppress(ScheduleError):
                table.take(record.offset, record.key, record.value)
    return table.in_order()


async def cancel(installation: Installation, arguments: ScheduleArguments) -> Cancelled:
    """Cancel one; raises NotFoundError, or ConfigurationError where its definition asks for it.

    What is being emitted at this very moment is emitted.
    """
    pending = {one.id: one for one in await list_schedules(installation, NoArguments())}
    event = pending.get(arguments.id)
    if event is None:
        raise NotFoundError(
            f"found no schedule {arguments.id[:100]!r}, expected one of those that "
            "`rowcast schedules` shows"
        )
    if not event.root:
        raise ConfigurationError(
            f"the schedule {event.id!r} is what the definition {event.listener!r} asks for; "
            f"change the definition, or `rowcast delete {event.listener}`"
        )
    topic = installation.cluster.topics.schedules
    if event.name is None:
        await write_record(installation.cluster, topic, event.record_key, None)
    else:
        # What recurs is written anew as it is emitted; a cancellation counts for that too.
        ended = Cancellation(tenant=event.tenant, cancelled=event.name)
        await write_record(installation.cluster, topic, ended.record_key, ended.encode())
    return Cancelled(event.id, event.type, event.due_ms)
