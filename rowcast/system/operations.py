"""The table of the system API: each operation, and what carries it out on this installation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
import psycopg
from pymongo.errors import PyMongoError

from api.errors import ApiError
from api.system_operation import ServedOperation, SystemOperation, serve
from cdc.errors import SourceLostError
from events.errors import InvalidDataError
from push.service import PushService
from rowcast.errors import MENDABLE, NotFoundError, NotRunningError
from rowcast.installation import Installation
from rowcast.system import definitions, installation, runs, schedules, sources, subscriptions

_Arguments = TypeVar("_Arguments", bound=msgspec.Struct)
_Result = TypeVar("_Result")
_Place = TypeVar("_Place")


def served_operations(place: Installation, push: PushService) -> list[ServedOperation]:
    """All operations on an installation and its push service."""
    return [
        _on(place, definitions.LIST_DEFINITIONS, definitions.list_definitions),
        _on(place, definitions.GET_DEFINITION, definitions.get_definition),
        _on(place, definitions.APPLY, definitions.apply),
        _on(place, definitions.PUT_DEFINITION, definitions.put),
        _on(place, definitions.DELETE_DEFINITION, definitions.delete),
        _on(place, runs.LIST_RUNS, runs.list_runs),
        _on(place, runs.LIST_DEAD, runs.list_dead),
        _on(place, runs.GET_DEAD, runs.get_dead),
        _on(place, runs.REPLAY_DEAD, runs.replay_dead),
        _on(place, runs.DROP_DEAD, runs.drop_dead),
        _on(place, runs.REPLAY, runs.replay_events),
        _on(place, sources.LIST_SOURCES, sources.list_sources),
        _on(place, sources.SNAPSHOT, sources.snapshot),
        _on(place, sources.LIST_AUDITED, sources.list_audited),
        _on(place, sources.ENABLE_AUDIT, sources.enable_audit),
        _on(place, sources.DISABLE_AUDIT, sources.disable_audit),
        _on(place, sources.LIST_READS, sources.list_reads),
        _on(place, schedules.LIST_SCHEDULES, schedules.list_schedules),
        _on(place, schedules.CANCEL_SCHEDULE, schedules.cancel),
        _on(push, subscriptions.LIST_SUBSCRIPTIONS, subscriptions.list_subscriptions),
        _on(push, subscriptions.UNREGISTER, subscriptions.unregister),
        _on(place, installation.STATUS, installation.shown_status),
        _on(place, installation.DOCTOR, installation.doctor),
        _on(place, installation.MAKE_TOKEN, installation.make_token),
        _on(place, installation.LIST_PACKAGES, installation.list_packages),
    ]


def _on(
    place: _Place,
    operation: SystemOperation[_Arguments, _Result],
    carry_out: Callable[[_Place, _Arguments], Awaitable[_Result]],
) -> ServedOperation:
    async def carried(arguments: _Arguments) -> _Result:
        try:
            return await carry_out(place, arguments)
        except (*MENDABLE, psycopg.Error, PyMongoError) as error:
            raise _failure(error) from error

    return serve(operation, carried)


def _failure(error: Exception) -> ApiError:
    """What the client is answered for what somebody can mend."""
    message = str(error).strip()
    match error:
        case NotFoundError():
            return ApiError(404, "RC404", message)
        case NotRunningError() | SourceLostError() | psycopg.OperationalError() | PyMongoError():
            return ApiError(503, "RC503", message, headers=(("retry-after", "2"),))
        case InvalidDataError():
            return ApiError(422, "RC422", message)
        case _:
            return ApiError(400, "RC400", message)
