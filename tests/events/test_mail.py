from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.errors import MailError
from events.mail import Addresses, Mail, WrittenMail, write_mail

NOW = datetime(2031, 5, 1, 12, tzinfo=UTC)
# What people put into forms, line ends and separators of mails among it.
ANY_TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8"), st.sampled_from("\r\n\t ,;:<>@\"'().=?_ab\0\x85\u2028")
    ),
    max_size=60,
)


def written(mail: Mail, sender: str = "Shop <shop@example.com>") -> WrittenMail:
    return write_mail(mail, sender, "ev_1", NOW)


def parsed(mail: WrittenMail) -> EmailMessage:
    return email.message_from_bytes(mail.message, EmailMessage, policy=email.policy.default)


def test_a_mail_is_what_was_asked_for() -> None:
    made = written(
        Mail(
            to=("Ada Lovelace <ada@example.com>", "grace@example.com"),
            subject="Grüße",
            text="Hallo Ada\n.\nbis bald ✓",
            html="<p>Hallo</p>",
            cc="c@example.com",
            bcc=("b@example.com", "ada@example.com"),
            reply_to="help@example.com",
        )
    )
    assert made.message_id == "<ev_1@example.com>"
    assert made.sender == "shop@example.com"
    assert made.recipients == (
        *("ada@example.com", "grace@example.com", "c@example.com"),
        "b@example.com",
    )
    message = parsed(made)
    assert b"b@example.com" not in made.message
    assert made.message.isascii()
    assert message["From"] == "Shop <shop@example.com>"
    assert message["To"] == "Ada Lovelace <ada@example.com>, grace@example.com"
    assert (message["Cc"], message["Reply-To"]) == ("c@example.com", "help@example.com")
    assert (message["Subject"], message["Message-ID"]) == ("Grüße", made.message_id)
    assert message["Date"].datetime == NOW
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().splitlines() == ["Hallo Ada", ".", "bis bald ✓"]
    assert html.get_content().splitlines() == ["<p>Hallo</p>"]


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("", "a mail to nobody"),
        ((), "a mail to nobody"),
        ("ada", "expected one address such as"),
        ("a@example.com, b@example.com", "several stand in a list"),
        ("a@example.com\r\nBcc: b@example.com", "expected one address"),
        ("Ada\nBcc: b@example.com <a@example.com>", "expected one address"),
        ("a@example.com> SIZE=1\r\nRCPT TO:<b@example.com", "expected one address"),
        ("a@example.com,b@example.com <c@example.com", "expected one address"),
        ("ada@exämple.com", "xn--"),
        ('"a b"@example.com', "expected one address"),
        ("a" * 250 + "@example.com", "expected one address"),
        (tuple(f"a{number}@example.com" for number in range(51)), "51 recipients, expected 50"),
    ],
)
def test_an_address_is_one_address_and_no_more(to: Addresses, found: str) -> None:
    with pytest.raises(MailError, match=found):
        written(Mail(to=to, subject="s", text="t"))


@pytest.mark.parametrize(
    ("mail", "found"),
    [
        (Mail("a@example.com", "two\nlines", "t"), "expected one line"),
        (Mail("a@example.com", "a\r\nBcc: b@example.com", "t"), "expected one line"),
        (Mail("a@example.com", "a\x85b", "t"), "expected one line"),
        (Mail("a@example.com", " ", "t"), "expected 1 to 500"),
        (Mail("a@example.com", "s" * 501, "t"), "501 characters"),
        (Mail("a@example.com", "s"), "neither text nor html"),
        (Mail("a@example.com", "s", "x" * 2_000_000), "2,000,000 bytes of `text`"),
        (Mail("a@example.com", "s", "\ud800"), "UTF-8"),
    ],
)
def test_what_no_mail_can_be_made_of_is_said(mail: Mail, found: str) -> None:
    with pytest.raises(MailError, match=found):
        written(mail)


ENCODED = "=?utf-8?q?x=0D=0ABcc=3A_b@example=2Ecom=0D=0A=0D=0A?="


@example(name=ENCODED, subject=ENCODED, text="", html="")
@example(name='"', subject='"', text="\r.\r", html="\n.\r\n")
@given(name=ANY_TEXT, subject=ANY_TEXT, text=ANY_TEXT, html=ANY_TEXT)
def test_nothing_that_is_put_into_a_mail_becomes_a_header_or_a_recipient(
    name: str, subject: str, text: str, html: str
) -> None:
    try:
        made = written(Mail(f"{name} <ada@example.com>", subject, text or "-", html or "-"))
    except MailError:
        return
    assert made.recipients == ("ada@example.com",)
    message = parsed(made)
    assert sorted(message.keys()) == sorted(
        [
            *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
            *("MIME-Version", "Content-Type"),
        ]
    )
    if subject == ENCODED:
        assert message["Subject"] == ENCODED
    (to,) = message["To"].addresses
    assert to.addr_spec == "ada@example.com"
    # Nothing that ends a mail, or a line, stands alone: every line end is CR LF.
    assert made.message.replace(b"\r\n", b"").find(b"\n") == -1
    assert made.message.replace(b"\r\n", b"").find(b"\r") == -1
