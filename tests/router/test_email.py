"""The built-in action `email`: what it makes of an event, and how its run ends."""

from __future__ import annotations

import asyncio

import pytest

from events.errors import MailError
from events.event import decode_event
from events.json_codec import encode
from events.mail import Mail, MailReceipt
from router.definition import Definition, Email
from router.delivery import Delivery
from router.email import fill_email, send_email
from router.errors import DefinitionError
from router.trigger_file import parse_trigger_file

pytestmark = pytest.mark.anyio

WELCOME = Email(
    to=("${after.name} <${after.email}>", "${after.second_email}"),
    subject="Welcome, ${after.name}",
    text="You have ${after.points} points: ${after.tags}. $${after.name} ${after.none}",
    html="<p>Welcome, ${after.name}</p>",
)
EVENT: dict[str, object] = {
    "id": "shop/1/1",
    "type": "db.shop.public.users.created",
    "after": {"name": "<b>Ada</b> & Co", "email": "ada@example.com", "points": 100, "tags": ["a"]},
}


class Sender:
    """Answers with what it is given, after the tests' own time."""

    def __init__(self, answer: MailReceipt | MailError | None) -> None:
        self.answer = answer
        self.keys: list[str] = []

    async def send(self, mail: Mail, message_key: str) -> MailReceipt:
        assert mail.subject == "Welcome, <b>Ada</b> & Co"
        self.keys.append(message_key)
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, MailReceipt):
            return self.answer
        raise self.answer or MailError("")


def delivery(timeout_s: float = 10) -> Delivery:
    definition = Definition("welcome", "db.shop.public.users.created", WELCOME, timeout_s=timeout_s)
    return Delivery(definition, decode_event(encode(EVENT)), None, "t", 0, 0)


def test_fields_are_put_into_texts_and_escaped_in_html() -> None:
    mail = fill_email(WELCOME, decode_event(encode(EVENT)).body)
    assert mail.to == ("<b>Ada</b> & Co <ada@example.com>",)
    assert mail.text == 'You have 100 points: ["a"]. ${after.name} '
    assert mail.html == "<p>Welcome, &lt;b&gt;Ada&lt;/b&gt; &amp; Co</p>"


async def test_a_run_ends_as_its_mail_does() -> None:
    sender = Sender(MailReceipt("<x@example.com>", {"b@example.com": "550 no"}))
    outcome = await send_email(sender, delivery(), WELCOME)
    assert (outcome.status, outcome.result) == ("ok", "<x@example.com>")
    assert outcome.logs[0].fields == {"address": "b@example.com", "why": "550 no"}
    sender.answer = MailError("not now")
    outcome = await send_email(sender, delivery(), WELCOME)
    assert (outcome.status, outcome.error) == ("failed", "not now")
    sender.answer = None
    outcome = await send_email(sender, delivery(0.01), WELCOME)
    assert outcome.status == "timeout"
    assert len(set(sender.keys)) == 1


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ('subject = "s"\ntext = "t"', "missing required field `to`"),
        ('to = []\nsubject = "s"\ntext = "t"', "found no `to`"),
        ('to = "${after.email}"\nsubject = "s"', "neither `text` nor `html`"),
        ('to = "${after..email}"\nsubject = "s"\ntext = "t"', r"found '\$\{after..email\}'"),
        ('to = "a@b.c"\nsubject = "s"\ntext = "t"\nheaders = {}', "unknown key 'headers'"),
    ],
)
def test_a_trigger_file_that_no_mail_can_be_made_of_is_refused(table: str, found: str) -> None:
    text = f'on = "custom.x"\n[email]\n{table}\n'
    with pytest.raises(DefinitionError, match=found):
        parse_trigger_file("welcome.toml", text)
