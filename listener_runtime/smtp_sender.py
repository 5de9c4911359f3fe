"""Mails to the SMTP server of rowcast.toml.

At least once: a mail is sent again only where nobody can know whether the server took it (a
connection that broke, a process that was killed), and with the Message-ID of the first time. What
this process knows to have been taken is not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import aiosmtplib

from events.errors import MailError
from events.mail import NO_SERVER, Mail, MailReceipt, WrittenMail, write_mail
from listener_runtime.settings import SmtpSettings

_AT_ONCE: Final = 8
_TIMEOUT_S: Final = 30.0
_GOODBYE_S: Final = 2.0
_REMEMBERED: Final = 10_000


def _now() -> datetime:
    return datetime.now(UTC)


class SmtpSender:
    """One connection a mail; see events.mail.MailSender."""

    def __init__(self, settings: SmtpSettings, now: Callable[[], datetime] = _now) -> None:
        self._settings = settings
        self._now = now
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._taken: OrderedDict[str, MailReceipt] = OrderedDict()

    def write(self, mail: Mail, message_key: str) -> WrittenMail:
        """The mail as it would be sent; raises MailError."""
        settings = self._settings
        if not settings.host:
            raise MailError(NO_SERVER)
        written = write_mail(mail, settings.sender, message_key, self._now())
        for address in written.recipients if settings.domains else ():
            if address.rpartition("@")[2].lower() not in settings.domains:
                raise MailError(
                    f"found a mail to {address}, expected one of the `domains` in [smtp] of "
                    f"rowcast.toml: {', '.join(settings.domains)}"
                )
        return written

    async def send(self, mail: Mail, message_key: str) -> MailReceipt:
        """Send a mail unless this process knows it to have been taken; raises MailError."""
        written = self.write(mail, message_key)
        async with self._room:
            receipt = self._taken.get(written.message_id)
            if receipt is None:
                receipt = await self._hand_over(written)
                self._taken[written.message_id] = receipt
                if len(self._taken) > _REMEMBERED:
                    self._taken.popitem(last=False)
        return receipt

    async def look(self) -> None:
        """Connect and sign in, as a mail would; raises MailError."""
        async with self._connected():
            pass

    async def _hand_over(self, written: WrittenMail) -> MailReceipt:
        async with self._connected() as client:
            answers, _ = await client.sendmail(written.sender, written.recipients, written.message)
        refused = {address: f"{one.code} {one.message}" for address, one in answers.items()}
        return MailReceipt(written.message_id, refused)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[aiosmtplib.SMTP]:
        client = self._client()
        try:
            await client.connect()
            yield client
            # What was taken is taken, however the goodbye goes.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=_GOODBYE_S)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailError(self._said(error)) from error
        finally:
            client.close()

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.user or None,
            password=settings.password or None,
            use_tls=settings.tls == "tls",
            start_tls=settings.tls == "starttls",
            timeout=_TIMEOUT_S,
        )

    def _said(self, error: Exception) -> str:
        place = f"the mail server {self._settings.host}:{self._settings.port}"
        match error:
            case aiosmtplib.SMTPRecipientsRefused():
                said = "; ".join(
                    f"{one.recipient}: {one.code} {one.message}" for one in error.recipients
                )
                return f"{place} refused every recipient: {said}"
            case aiosmtplib.SMTPResponseException():
                return f"{place} answered {error.code} {error.message}"
            case _:
                return f"{place} was not reached: {error or type(error).__name__}"
