"""What one client is and has: its identity and registrations, and what its messages do to them.

Nothing of a socket here: text comes in, frames go to the outbox. Ends the outbox where the
client may not stay. Times are of the event loop's clock and of Unix; the token's end is kept by
a timer of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import assert_never

from events.cluster import Cluster
from events.errors import TokenError
from events.token import Identity, TokenVerifier
from push.catch_up import CatchUp
from push.errors import MessageError, UnavailableError
from push.fan_out import FanOut
from push.outbox import Outbox
from push.positions import Positions, ResumePoint, positions_of, resume_point, unlevel
from push.protocol import (
    Auth,
    Ping,
    Register,
    Unregister,
    answer,
    error_answer,
    parse_message,
)
from push.registration import Joining, Registration
from push.settings import PushSettings
from push.subscription import Subscription, subscription
from push.tail import Tail

_log = logging.getLogger(__name__)

NOT_AUTHENTICATED = 4401
"""Close code of a token that is missing, wrong or at its end (401 in the private range)."""
INTERNAL_ERROR = 1011

_UNAUTHENTICATED = (
    "found no token, expected one as ?token= or in a first message "
    '{"op": "auth", "token": "..."}; `rowcast token` makes one'
)


@dataclass(frozen=True, slots=True)
class PushContext:
    """What all sessions of the process share."""

    cluster: Cluster
    settings: PushSettings
    verifier: TokenVerifier
    fan_out: FanOut
    tail: Tail
    slots: asyncio.Semaphore


class Session:
    """One client, from its first message to the end of its outbox."""

    def __init__(self, context: PushContext) -> None:
        self._context = context
        self.outbox = Outbox(context.settings.outbox_bytes)
        self._identity: Identity | None = None
        self._registrations: dict[int, Registration] = {}
        self._catch_ups: dict[int, asyncio.Task[None]] = {}
        self._last_id = 0
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(context.settings.auth_s, self._never_authenticated)

    def close(self) -> None:
        """Give up everything; the outbox is not touched."""
        self._timer.cancel()
        for task in self._catch_ups.values():
            task.cancel()
        for registration in self._registrations.values():
            self._context.fan_out.remove(registration)
        self._registrations.clear()

    def authenticate(self, token: str) -> Identity | None:
        """Take a token; where it is not accepted the outbox ends."""
        now = time.time()
        try:
            identity = self._context.verifier.verify(token, now=now)
            self._check(identity)
        except TokenError as error:
            self._refuse(str(error))
            return None
        self._identity = identity
        self._expire_at(identity.expires_s - now)
        return identity

    def _check(self, identity: Identity) -> None:
        roles = self._context.settings.roles
        if identity.role not in roles:
            raise TokenError(
                f"found the role {identity.role}, expected {' or '.join(roles)}; "
                "`rowcast token` with --role makes one"
            )
        before = self._identity
        if before is not None and (before.subject, before.role) != (
            identity.subject,
            identity.role,
        ):
            raise TokenError(
                f"found a token of {identity.subject} ({identity.role}), expected one of "
                f"{before.subject} ({before.role}) as before; connect anew as somebody else, or "
                "`rowcast token` makes the right one"
            )

    def _expire_at(self, lifetime_s: float) -> None:
        notice_s = min(self._context.settings.expiry_notice_s, lifetime_s / 2)
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(
            lifetime_s - notice_s, self._expires_soon, notice_s
        )

    def _expires_soon(self, notice_s: float) -> None:
        message = "the token ends soon; send another with auth, `rowcast token` makes one"
        self.outbox.put(answer("expiring", in_ms=round(notice_s * 1_000), message=message))
        self._timer = asyncio.get_running_loop().call_later(notice_s, self._expired)

    def _expired(self) -> None:
        self._refuse(
            "found a token that has expired, expected another before its end; "
            "`rowcast token` makes a new one, send it with auth or connect anew"
        )

    def _never_authenticated(self) -> None:
        self._refuse(_UNAUTHENTICATED)

    def _refuse(self, message: str) -> None:
        last = answer("error", ref=None, code="token", message=message)
        self.outbox.end(NOT_AUTHENTICATED, "no valid token", last)

    async def receive(self, text: str | None) -> None:
        """Do what a message asks; None is a message that was not text."""
        try:
            await self._receive(text)
        except MessageError as error:
            self.outbox.put(error_answer(error))

    async def _receive(self, text: str | None) -> None:
        if text is None:
            raise MessageError("binary", "found a binary message, expected JSON as text")
        limit = self._context.settings.message_bytes
        if len(text) > limit:
            raise MessageError(
                "too_large",
                f"found a message of {len(text):,} characters, expected {limit:,} at most",
            )
        message = parse_message(text)
        if self._identity is None and not isinstance(message, Auth):
            self._refuse(_UNAUTHENTICATED)
            return
        match message:
            case Auth():
                identity = self.authenticate(message.token)
                if identity is not None:
                    self._authenticated(message, identity)
            case Register():
                await self._register(message)
            case Unregister():
                self._unregister(message)
            case Ping():
                self._ping(message)
            case _:
                assert_never(message)

    def _authenticated(self, message: Auth, identity: Identity) -> None:
        self.outbox.put(
            answer(
                "authenticated",
                ref=message.ref,
                role=identity.role,
                subject=identity.subject,
                expires_ms=round(identity.expires_s * 1_000),
            )
        )

    async def _register(self, message: Register) -> None:
        limit = self._context.settings.registrations
        if len(self._registrations) >= limit:
            raise MessageError(
                "too_many",
                f"found {limit} registrations on this connection, expected no more; unregister "
                "some, or list several values of a field in one filter",
                message.ref,
            )
        try:
            self._context.tail.check_placed()
            begin = await self._begin(message)
        except UnavailableError as error:
            raise MessageError("unavailable", str(error), message.ref) from error
        # From here on without an await: where it begins, and that it is followed, is one fact.
        fan_out = self._context.fan_out
        self._last_id += 1
        registration = Registration(self._last_id, message.pattern, message.conditions, self.outbox)
        registration.since_ms = int(time.time() * 1_000)
        live = fan_out.offsets_of(message.pattern)
        for part, offset in begin.next_offsets.items():
            if offset > live[part]:
                registration.floors[part] = offset
        is_live = all(begin.next_offsets.get(part, 0) >= offset for part, offset in live.items())
        self.outbox.put(
            answer(
                "registered",
                ref=message.ref,
                id=registration.id,
                live=is_live,
                complete=begin.complete,
                positions=positions_of(begin.next_offsets),
            )
        )
        self._registrations[registration.id] = registration
        if not is_live:
            registration.joining = Joining(self._context.settings.held_bytes, live)
            self._catch_up(registration, begin)
        fan_out.add(registration)

    async def _begin(self, message: Register) -> ResumePoint:
        """Where a registration begins; without positions, where live delivery stands."""
        fan_out, tail = self._context.fan_out, self._context.tail
        given = message.positions
        if given is None:
            return ResumePoint(fan_out.offsets_of(message.pattern), complete=True)
        for topic in given:
            if not fan_out.may_hold(topic, message.pattern):
                raise MessageError(
                    "bad_field",
                    f"found the topic {topic[:80]!r} in from, expected topics that "
                    f"{message.pattern} selects, as `registered` of the same pattern gave them",
                    message.ref,
                )
        live = fan_out.next_offsets
        if any((topic, len(offsets) - 1) not in live for topic, offsets in given.items()):
            await tail.refresh()
        topics = fan_out.topics_of(message.pattern)
        extents = await tail.extents(unlevel(given, live, topics))
        return resume_point(given, live, topics, extents)

    def _catch_up(self, registration: Registration, begin: ResumePoint) -> None:
        context = self._context
        catch_up = CatchUp(
            context.cluster, context.fan_out, registration, begin, context.settings.stalled_s
        )
        task = asyncio.create_task(catch_up.run(context.slots))
        self._catch_ups[registration.id] = task
        task.add_done_callback(lambda done: self._caught_up(registration.id, done))

    def _caught_up(self, registration_id: int, task: asyncio.Task[None]) -> None:
        self._catch_ups.pop(registration_id, None)
        if not task.cancelled() and task.exception() is not None:
            _log.error("catching up failed", exc_info=task.exception())
            self.outbox.end(INTERNAL_ERROR, "catching up failed, connect again")

    def subscriptions(self, connection: int) -> list[Subscription]:
        """Its registrations, as of the connection of that number."""
        return [
            subscription(connection, self._identity, one) for one in self._registrations.values()
        ]

    def end_registration(self, registration_id: int) -> bool:
        """End one that the client did not ask to end, and tell it; False where there is none."""
        if not self._end(registration_id):
            return False
        message = "the service has ended this registration"
        self.outbox.put(answer("unregistered", ref=None, id=registration_id, message=message))
        return True

    def _unregister(self, message: Unregister) -> None:
        if not self._end(message.id):
            raise MessageError(
                "unknown_id",
                f"found the id {message.id}, expected one that `registered` gave and that was not "
                "unregistered since",
                message.ref,
            )
        self.outbox.put(answer("unregistered", ref=message.ref, id=message.id))

    def _end(self, registration_id: int) -> bool:
        registration = self._registrations.pop(registration_id, None)
        if registration is None:
            return False
        self._context.fan_out.remove(registration)
        task = self._catch_ups.get(registration_id)
        if task is not None:
            task.cancel()
        return True

    def _ping(self, message: Ping) -> None:
        if not message.positions:
            self.outbox.put(answer("pong", ref=message.ref))
            return
        # All that lies before these positions is in the outbox already, before this answer.
        live = [one for one in self._registrations.values() if one.joining is None]
        positions: Positions = {}
        for pattern in {one.pattern for one in live}:
            positions.update(self._context.fan_out.positions(pattern))
        ids = [one.id for one in live]
        self.outbox.put(answer("pong", ref=message.ref, ids=ids, positions=positions))
