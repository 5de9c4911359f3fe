"""The built-in action `email`: a mail made of the event.

Fields of the event that are put into `html` are escaped, so that nobody writes markup into a mail
by their name. The Message-ID is the same at each try.
"""

from __future__ import annotations

import asyncio
import html
import time

from events.errors import MailError
from events.event_id import emitted_id
from events.json_codec import JsonObject
from events.mail import Addresses, Mail, MailSender
from events.run import LogLine, RunOutcome
from router.definition import Email
from router.delivery import Delivery
from router.template import fill_text


async def send_email(sender: MailSender, delivery: Delivery, email: Email) -> RunOutcome:
    """Send the event's mail once."""
    event, definition = delivery.event, delivery.definition
    started = time.perf_counter()
    try:
        async with asyncio.timeout(definition.timeout_s):
            receipt = await sender.send(
                fill_email(email, event.body), emitted_id(event.id, definition.name, 0)
            )
    except TimeoutError:
        error = f"the mail server did not take the mail within {definition.timeout_s:g} s"
        return RunOutcome("timeout", _since_ms(started), error)
    except MailError as error:
        return RunOutcome("failed", _since_ms(started), str(error))
    refused = tuple(
        LogLine("warning", "the mail server refused a recipient", {"address": one, "why": why})
        for one, why in receipt.refused.items()
    )
    return RunOutcome("ok", _since_ms(started), result=receipt.message_id, logs=refused)


def fill_email(email: Email, event: JsonObject) -> Mail:
    """The mail for an event; an address that is empty then is left out."""
    return Mail(
        to=_addresses(email.to, event),
        subject=fill_text(email.subject, event),
        text=fill_text(email.text, event),
        html=fill_text(email.html, event, html.escape),
        cc=_addresses(email.cc, event),
        bcc=_addresses(email.bcc, event),
        reply_to=_addresses(email.reply_to, event),
    )


def _addresses(given: Addresses, event: JsonObject) -> tuple[str, ...]:
    templates = (given,) if isinstance(given, str) else given
    filled = (fill_text(one, event) for one in templates)
    return tuple(one for one in filled if one.strip())


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1_000
