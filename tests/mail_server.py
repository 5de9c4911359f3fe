"""A real SMTP server (aiosmtpd) in the test's own loop, which keeps what it takes."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class MailServer:
    """What a server took; `refusals` are answers to give first, one a mail, before taking any."""

    port: int = 0
    refusals: list[str] = field(default_factory=list[str])
    unknown: set[str] = field(default_factory=set[str])
    taken: list[tuple[list[str], EmailMessage]] = field(
        default_factory=list[tuple[list[str], EmailMessage]]
    )
    users: list[str] = field(default_factory=list[str])

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        if address in self.unknown:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(
            envelope.content, EmailMessage, policy=email.policy.default
        )
        self.taken.append((envelope.rcpt_tos, message))
        return "250 OK"

    def sign_in(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _kind: str, given: object
    ) -> AuthResult:
        assert isinstance(given, LoginPassword)
        self.users.append(given.login.decode())
        is_right = given.password == b"s3cret-password"
        # Not handled: the server says itself that it was wrong.
        return AuthResult(success=is_right, handled=is_right)


@asynccontextmanager
async def mail_server(
    tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncGenerator[MailServer]:
    """A server; with `tls` it wants STARTTLS and a password before it takes anything."""
    kept = MailServer()

    def smtp() -> SMTP:
        return SMTP(
            kept,
            tls_context=tls,
            require_starttls=tls is not None,
            authenticator=kept.sign_in if tls else None,
            auth_required=tls is not None,
        )

    server = await asyncio.get_running_loop().create_server(smtp, "127.0.0.1", port)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()
        await server.wait_closed()
