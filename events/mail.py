"""A mail: what listeners and triggers ask for, checked and written as RFC 5322 wants it. Pure.

What stands in a mail often comes from whoever signed up or wrote a comment, so nothing of it may
become another header, another recipient or a second mail: an address is exactly one address of
plain characters, a subject is one line, and the body is encoded, line ends included. The
Message-ID follows from the event, so that a mail that is sent again can be told by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final, Protocol, TypeAlias

import msgspec

from events.errors import MailError

NO_SERVER: Final = (
    "found no mail server, expected `host` and `from` in [smtp] of rowcast.toml (docs/mail.md); "
    "services read it when they start"
)
MAX_RECIPIENTS: Final = 50
MAX_SUBJECT_CHARS: Final = 500
MAX_BODY_BYTES: Final = 1024 * 1024
_MAX_ADDRESS_CHARS: Final = 254
_NAMED: Final = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?P<domain>(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_PLAIN_WORDS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 !#*+/_-]{0,60}")
_PLAIN_LINE: Final = re.compile(r"(?!.*=\?)[\x21-\x7e](?:[\x20-\x7e]{0,60}[\x21-\x7e])?")
_MESSAGE_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# All bytes below 128, whatever the server offers.
_POLICY: Final = SMTP.clone(cte_type="7bit")

Addresses: TypeAlias = str | tuple[str, ...]


class Mail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for: addresses as `ada@example.com` or `Ada <ada@example.com>`."""

    to: Addresses
    subject: str
    text: str = ""
    html: str = ""
    cc: Addresses = ()
    bcc: Addresses = ()
    reply_to: Addresses = ()


@dataclass(frozen=True, slots=True)
class WrittenMail:
    """A mail as it goes to a server: the envelope, and the message's bytes."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    message: bytes


@dataclass(frozen=True, slots=True)
class MailReceipt:
    """A mail that a server has taken; `refused` are recipients it did not take, and why."""

    message_id: str
    refused: dict[str, str] = field(default_factory=dict[str, str])


class MailSender(Protocol):
    """What hands mails to a server: listener_runtime's SmtpSender."""

    async def send(self, mail: Mail, message_key: str) -> MailReceipt:
        """Send a mail, whose Message-ID is made from the key; raises MailError."""
        ...


class NoMail:
    """A MailSender where there is no server."""

    async def send(self, mail: Mail, message_key: str) -> MailReceipt:
        """Raise MailError."""
        del mail, message_key
        raise MailError(NO_SERVER)


def write_mail(mail: Mail, sender: str, message_key: str, date: datetime) -> WrittenMail:
    """The mail from a sender's address; raises MailError with what cannot be sent, and why."""
    if not _MESSAGE_KEY.fullmatch(message_key):
        raise MailError(f"found the message key {message_key[:80]!r}, expected a short name")
    author = read_address("from", sender)
    to, cc, bcc = _addresses("to", mail.to), _addresses("cc", mail.cc), _addresses("bcc", mail.bcc)
    reply_to = _addresses("reply_to", mail.reply_to)
    envelope = tuple(dict.fromkeys(one.addr_spec for one in (*to, *cc, *bcc)))
    if not envelope:
        raise MailError("found a mail to nobody, expected an address in `to`")
    if len(envelope) > MAX_RECIPIENTS:
        raise MailError(f"found {len(envelope)} recipients, expected {MAX_RECIPIENTS} at most")
    message_id = f"<{message_key}@{author.domain}>"
    headers = {
        "From": _named(author),
        "To": _list(to),
        "Cc": _list(cc),
        "Reply-To": _list(reply_to),
        "Subject": _phrase(_subject(mail.subject), _PLAIN_LINE),
        "Date": format_datetime(date),
        "Message-ID": message_id,
        # RFC 3834: nobody's holiday notice should answer it.
        "Auto-Submitted": "auto-generated",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return WrittenMail(message_id, author.addr_spec, envelope, head.encode("ascii") + _body(mail))


def read_address(name: str, text: str) -> Address:
    """The one address that a text is; raises MailError, `name` says where it stands."""
    named = _NAMED.fullmatch(text.strip())
    shown, address = (named["name"], named["address"]) if named else ("", text)
    shown, address = shown.strip().strip('"'), address.strip()
    match = _ADDRESS.fullmatch(address) if len(address) <= _MAX_ADDRESS_CHARS else None
    if match is None or _CONTROL.search(shown):
        raise MailError(
            f"found {text[:100]!r} in `{name}`, expected one address such as ada@example.com or "
            "Ada <ada@example.com>; several stand in a list, a domain of other letters as xn--..."
        )
    return Address(display_name=shown, addr_spec=address)


def _addresses(name: str, given: Addresses) -> tuple[Address, ...]:
    texts: Iterable[str] = (given,) if isinstance(given, str) and given else given
    return tuple(read_address(name, text) for text in texts)


def _subject(text: str) -> str:
    if _CONTROL.search(text):
        raise MailError(
            f"found the subject {text[:100]!r}, expected one line without control characters"
        )
    if not text.strip() or len(text) > MAX_SUBJECT_CHARS:
        raise MailError(
            f"found a subject of {len(text)} characters, expected 1 to {MAX_SUBJECT_CHARS}"
        )
    return text


def _list(addresses: tuple[Address, ...]) -> str:
    return ",\r\n ".join(map(_named, addresses))


def _named(address: Address) -> str:
    if not address.display_name:
        return address.addr_spec
    return f"{_phrase(address.display_name, _PLAIN_WORDS)} <{address.addr_spec}>"


def _phrase(text: str, plain: re.Pattern[str]) -> str:
    """Text as it stands in a header; by RFC 2047 where it is more than plain.

    Not left to email.message: that reads encoded words in a text it is given, and writes the line
    breaks that it finds in them.
    """
    if plain.fullmatch(text):
        return text
    return Header(text, "utf-8", header_name="Reply-To").encode(linesep="\r\n")


def _body(mail: Mail) -> bytes:
    if not mail.text and not mail.html:
        raise MailError("found neither text nor html, expected one of them or both")
    for name, text in (("text", mail.text), ("html", mail.html)):
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise MailError(f"`{name}` cannot be written as UTF-8: {error}") from error
        if size > MAX_BODY_BYTES:
            raise MailError(f"found {size:,} bytes of `{name}`, expected {MAX_BODY_BYTES:,}")
    body = EmailMessage(_POLICY)
    if mail.text:
        body.set_content(mail.text)
        if mail.html:
            body.add_alternative(mail.html, subtype="html")
    else:
        body.set_content(mail.html, subtype="html")
    if "MIME-Version" not in body:
        body["MIME-Version"] = "1.0"
    return body.as_bytes()
