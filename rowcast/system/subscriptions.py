"""Operations on WebSocket registrations of this HTTP service."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from api.system_operation import NoArguments, SystemOperation
from push.service import PushService
from push.subscription import Subscription
from rowcast.errors import NotFoundError


class SubscriptionArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registration."""

    id: Annotated[str, msgspec.Meta(description="id of a subscription")]


LIST_SUBSCRIPTIONS: Final = SystemOperation(
    "list_subscriptions",
    "GET",
    "/subscriptions",
    "WebSocket registrations: who, for what, since when",
    NoArguments,
    list[Subscription],
)
UNREGISTER: Final = SystemOperation(
    "unregister",
    "DELETE",
    "/subscriptions/{id}",
    "End one; its client is told",
    SubscriptionArguments,
    Subscription,
)


async def list_subscriptions(push: PushService, _arguments: NoArguments) -> list[Subscription]:
    """All that there are now."""
    return push.subscriptions()


async def unregister(push: PushService, arguments: SubscriptionArguments) -> Subscription:
    """End one; raises NotFoundError."""
    ended = push.unregister(arguments.id)
    if ended is None:
        raise NotFoundError(
            f"found no subscription {arguments.id[:100]!r}, expected one of those that there are "
            "now"
        )
    return ended
