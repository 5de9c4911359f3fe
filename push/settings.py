"""Limits of the push service; each keeps one client from taking what belongs to all."""

from __future__ import annotations

from dataclasses import dataclass

from events.token import ROLES, Role


@dataclass(frozen=True, slots=True)
class PushSettings:
    """What a connection may use.

    `outbox_bytes` is what may wait for a client before it counts as slow; one frame more is
    always taken, so that the largest event passes. `held_bytes` is what a registration that
    catches up may hold back of what happens meanwhile.
    """

    roles: tuple[Role, ...] = ROLES
    outbox_bytes: int = 4 * 1024 * 1024
    held_bytes: int = 1024 * 1024
    message_bytes: int = 256 * 1024
    registrations: int = 1_000
    catch_ups: int = 8
    stalled_s: float = 30.0
    auth_s: float = 10.0
    expiry_notice_s: float = 30.0
    start_s: float = 5.0
