"""A registration gives one profile, one bonus and a mail, whatever is away or killed meanwhile."""

from __future__ import annotations

import email
import mailbox
from collections import Counter
from pathlib import Path

import pytest

from tests.examples.conftest import Scenarios
from tests.integration.live_installation import wait_until

pytestmark = pytest.mark.integration

USERS = 4


def received(folder: Path) -> list[tuple[str, str]]:
    """Recipient and Message-ID of each mail that the server took."""
    mails = [email.message_from_bytes(bytes(mail)) for mail in mailbox.Maildir(folder)]
    return [(mail["To"], mail["Message-ID"]) for mail in mails]


def test_whoever_registers_is_welcomed_once(scenarios: Scenarios, tmp_path: Path) -> None:
    addresses = [f"user{number}@example.com" for number in range(USERS)]
    # The mail server is away.
    for number, address in enumerate(addresses):
        body = {"name": f"User {number}", "email": address}
        assert scenarios.call("POST", "/rest/v1/users", body).status_code == 201
    again = scenarios.call("POST", "/rest/v1/users", {"name": "Eve", "email": addresses[0]})
    assert again.status_code == 409
    forged = {"name": "Eve\r\nBcc: all@example.com", "email": "eve@example.com"}
    assert scenarios.call("POST", "/rest/v1/users", forged).status_code == 400
    assert scenarios.call("GET", "/rest/v1/users").status_code == 401
    scenarios.wait_for_rows([(USERS,)], "select count(*) from bonuses")
    failed = scenarios.wait_for_runs("welcome_mail")[0]
    assert failed["status"] == "failed"
    assert "was not reached" in str(failed["error"])
    scenarios.kill_router()
    folder = tmp_path / "mails"
    mailbox.Maildir(folder, create=True)
    with scenarios.server("user-onboarding/mail_server.py", 5, str(folder)):
        wait_until(
            lambda: {to for to, _ in received(folder)} == {*addresses} or None,
            "a mail to everybody",
        )
    mails = received(folder)
    # A mail may come twice where a router is killed; its Message-ID tells.
    assert {to for to, _ in mails} == {*addresses}
    assert len({message_id for _, message_id in mails}) == USERS
    found = scenarios.rows(
        "select u.email, count(distinct p.user_id), count(distinct b.id), sum(b.points)"
        " from users u left join profiles p on p.user_id = u.id"
        " left join bonuses b on b.user_id = u.id group by u.email order by u.email"
    )
    assert found == [(address, 1, 1, 100) for address in addresses]
    ended = Counter(run["status"] for run in scenarios.runs("welcome_mail"))
    assert ended["ok"] == USERS
