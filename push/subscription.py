"""A registration as whoever runs the service sees it: who, for what, since when. Pure."""

from __future__ import annotations

import msgspec

from events.token import Identity
from push.registration import Registration


class Subscription(msgspec.Struct, frozen=True):
    """One registration of one connection; `conditions` are fields and the values asked for.

    The id is that of the connection and that of the registration in it, joined by a dot.
    """

    id: str
    role: str
    subject: str
    pattern: str
    conditions: dict[str, list[object]]
    since_ms: int
    state: str


def subscription_id(connection: int, registration: int) -> str:
    """The id of a registration in the whole service."""
    return f"{connection}.{registration}"


def subscription(
    connection: int, identity: Identity | None, registration: Registration
) -> Subscription:
    """What is to be told of a registration; its state is `live`, or `catching up`."""
    conditions = registration.conditions
    fields = zip(conditions.shape, conditions.alternatives, strict=True)
    return Subscription(
        id=subscription_id(connection, registration.id),
        role=identity.role if identity else "",
        subject=identity.subject if identity else "",
        pattern=str(registration.pattern),
        conditions={
            ".".join((place, *path)): [value for _, value in scalars]
            for (place, path), scalars in fields
        },
        since_ms=registration.since_ms,
        state="live" if registration.joining is None else "catching up",
    )
