"""The push service: the shared tail, and a session for every WebSocket at `/ws`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Receive, Scope, Send

from events.cluster import Cluster
from events.token import TokenVerifier
from push.connection import Connection, query_token
from push.fan_out import FanOut
from push.session import PushContext, Session
from push.settings import PushSettings
from push.subscription import Subscription
from push.tail import Tail


class PushService:
    """Started before its routes are served, closed after."""

    def __init__(
        self, cluster: Cluster, verifier: TokenVerifier, settings: PushSettings | None = None
    ) -> None:
        settings = settings or PushSettings()
        fan_out = FanOut(cluster.topics)
        self._context = PushContext(
            cluster=cluster,
            settings=settings,
            verifier=verifier,
            fan_out=fan_out,
            tail=Tail(cluster, fan_out),
            slots=asyncio.Semaphore(settings.catch_ups),
        )
        self._sessions: dict[int, Session] = {}
        self._last_connection = 0

    async def start(self) -> None:
        """Begin to follow Kafka; a Kafka that is away is waited for behind the scenes."""
        await self._context.tail.start(self._context.settings.start_s)

    async def close(self) -> None:
        """Stop following Kafka; connections are the server's, which has closed them (1012)."""
        await self._context.tail.close()

    def routes(self) -> list[BaseRoute]:
        """What is served: `/ws`."""
        return [WebSocketRoute("/ws", _Endpoint(self))]

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from its handshake to its end."""
        session = Session(self._context)
        self._last_connection += 1
        number = self._last_connection
        self._sessions[number] = session
        try:
            await Connection(receive, send, session).run(query_token(scope))
        finally:
            del self._sessions[number]

    def subscriptions(self) -> list[Subscription]:
        """The registrations of all connections, the oldest connection's first."""
        return [
            one
            for number, session in self._sessions.items()
            for one in session.subscriptions(number)
        ]

    def unregister(self, subscription_id: str) -> Subscription | None:
        """End a registration, whose client is told; None where there is none of that id."""
        for number, session in self._sessions.items():
            for one in session.subscriptions(number):
                if one.id == subscription_id:
                    session.end_registration(int(one.id.rpartition(".")[2]))
                    return one
        return None


class _Endpoint:
    """An ASGI application, so that Starlette puts no layer of its own around it."""

    def __init__(self, service: PushService) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._service.serve(scope, receive, send)


def static_directory() -> Path:
    """The browser's client, to be served at `/static`."""
    return Path(__file__).parent / "static"
