"""Mails over a real SMTP server, by the sender alone and as listeners send them."""

from __future__ import annotations

import ipaddress
import ssl
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from events.chain import Chain
from events.errors import MailError
from events.json_codec import JsonObject
from events.mail import Mail
from events.run import RunRequest
from listener_runtime.call_trace import TracedHost
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls
from listener_runtime.settings import HostSettings, SmtpSettings
from listener_runtime.smtp_sender import SmtpSender
from tests.listener_runtime.conftest import opened, pool_settings
from tests.listener_runtime.sandbox_runs import request
from tests.mail_server import MailServer, mail_server
from tests.port_base import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

MAIL = Mail("Ada <ada@example.com>", "Welcome", "Hello\n.\nAda")
ARGS: JsonObject = {"to": "ada@example.com", "subject": "Welcome", "text": "Hello"}


def settings(port: int) -> SmtpSettings:
    return SmtpSettings("127.0.0.1", port, tls="none", sender="Shop <shop@example.com>")


def run(event: str) -> RunRequest:
    return RunRequest(uuid.uuid4().hex, "welcome", "", b"{}", event, Chain("root"), timeout_s=30)


@asynccontextmanager
async def hosted(server: MailServer) -> AsyncGenerator[HostCalls]:
    host = HostCalls(HostSettings(smtp=settings(server.port)))
    yield host
    await host.close()


async def test_a_mail_arrives_and_is_not_sent_again_by_who_knows_that_it_was_taken() -> None:
    async with mail_server() as server:
        sender = SmtpSender(settings(server.port))
        receipt = await sender.send(MAIL, "ev_1")
        assert await sender.send(MAIL, "ev_1") == receipt
        ((recipients, message),) = server.taken
        assert recipients == ["ada@example.com"]
        assert message["Message-ID"] == receipt.message_id == "<ev_1@example.com>"
        assert message.get_content().splitlines() == ["Hello", ".", "Ada"]
        # Another process, after a kill: the same Message-ID tells that it is the same mail.
        await SmtpSender(settings(server.port)).send(MAIL, "ev_1")
        assert [one["Message-ID"] for _, one in server.taken] == [receipt.message_id] * 2


async def test_what_a_server_refuses_is_said_and_sent_when_it_takes_it() -> None:
    async with mail_server() as server:
        sender = SmtpSender(settings(server.port))
        server.refusals.append("451 try again later")
        with pytest.raises(MailError, match="answered 451 try again later"):
            await sender.send(MAIL, "ev_1")
        assert (await sender.send(MAIL, "ev_1")).refused == {}
        server.unknown.add("gone@example.com")
        with pytest.raises(MailError, match=r"every recipient: gone@example.com: 550"):
            await sender.send(Mail("gone@example.com", "s", "t"), "ev_2")
        both = Mail(("gone@example.com", "ada@example.com"), "s", "t")
        receipt = await sender.send(both, "ev_3")
        assert receipt.refused == {"gone@example.com": "550 no such user"}
        assert len(server.taken) == 2


async def test_without_a_server_or_with_one_that_is_away_it_is_said() -> None:
    with pytest.raises(MailError, match=r"host` and `from` in \[smtp\]"):
        await SmtpSender(SmtpSettings()).send(MAIL, "ev_1")
    (port,) = free_ports(1)
    with pytest.raises(MailError, match=f"127.0.0.1:{port} was not reached"):
        await SmtpSender(settings(port)).send(MAIL, "ev_1")


async def test_mails_go_to_the_domains_in_the_settings_alone() -> None:
    async with mail_server() as server:
        sender = SmtpSender(replace(settings(server.port), domains=("example.com",)))
        await sender.send(Mail(("a@Example.com", "b@example.com"), "s", "t"), "ev_1")
        with pytest.raises(MailError, match=r"found a mail to c@example\.com\.evil\.org"):
            await sender.send(Mail("a@example.com", "s", "t", bcc="c@example.com.evil.org"), "ev_2")
        assert len(server.taken) == 1


async def test_a_password_goes_over_tls_to_the_server_that_it_is_for_and_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    async with mail_server() as plain, mail_server(tls) as server:
        signed = replace(
            settings(server.port), tls="starttls", user="shop", password="s3cret-password"
        )
        with pytest.raises(MailError, match="certificate"):
            await SmtpSender(signed).send(MAIL, "ev_1")
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with pytest.raises(MailError, match="STARTTLS"):
            await SmtpSender(replace(signed, port=plain.port)).send(MAIL, "ev_1")
        with pytest.raises(MailError, match="535") as refused:
            await SmtpSender(replace(signed, password="wrong-password")).send(MAIL, "ev_1")
        assert "wrong-password" not in str(refused.value)
        assert set(server.users) == {"shop"}
        await SmtpSender(signed).send(MAIL, "ev_1")
        assert (len(server.taken), len(plain.taken)) == (1, 0)


async def test_a_listener_sends_mails_once_each_however_often_it_is_tried() -> None:
    async with mail_server() as server, hosted(server) as host:
        for _attempt in range(2):
            calls = host.open(run("e-1"))
            ids = [await calls.call("mail.send", ARGS) for _ in range(2)]
            assert ids[0] != ids[1]
            await calls.close()
        assert len(server.taken) == 2
        server.refusals.append("451 later")
        calls = host.open(run("e-2"))
        with pytest.raises(HostCallError, match=r"mail.send: .* 451 later"):
            await calls.call("mail.send", ARGS)
        # Asking again in one run is the same mail, as it is in the next run.
        again = await calls.call("mail.send", ARGS)
        assert await host.open(run("e-2")).call("mail.send", ARGS) == again
        assert len(server.taken) == 3
        with pytest.raises(HostCallError, match="expected one address"):
            await calls.call("mail.send", {**ARGS, "to": ["a@example.com\nBcc: b@example.com"]})
        with pytest.raises(HostCallError, match="unknown field `headers`"):
            await calls.call("mail.send", {**ARGS, "headers": {"Bcc": "b@example.com"}})


async def test_g_mail_sends_and_its_run_is_told_whom_the_server_refused() -> None:
    code = """
        async def main(event, g):
            try:
                await g.mail.send("nobody", "Welcome", "Hello")
            except Exception as error:
                g.log(str(error))
            return await g.mail.send(
                ["Ada <ada@example.com>", "gone@example.com"],
                "Welcome", "Hello", html="<p>Hello</p>", reply_to="help@example.com",
            )
    """
    async with mail_server() as server:
        server.unknown.add("gone@example.com")
        async with opened(pool_settings(1, 1), HostSettings(smtp=settings(server.port))) as pool:
            outcome = await pool.run(request(code))
        ((recipients, message),) = server.taken
    assert outcome.status == "ok", outcome.error
    assert recipients == ["ada@example.com"]
    assert message["Message-ID"] == outcome.result
    assert message["Reply-To"] == "help@example.com"
    logged, refused = outcome.logs
    assert "expected one address" in logged.message
    assert refused.fields == {"address": "gone@example.com", "why": "550 no such user"}


async def test_a_rehearsal_checks_a_mail_and_sends_none() -> None:
    async with mail_server() as server:
        host = TracedHost(HostCalls(HostSettings(smtp=settings(server.port))), rehearse=True)
        calls = host.open(run("e-1"))
        answer = await calls.call("mail.send", ARGS)
        assert isinstance(answer, dict)
        assert str(answer["message_id"]).endswith("@example.com>")
        with pytest.raises(HostCallError, match="expected one line"):
            await calls.call("mail.send", {**ARGS, "subject": "a\nb"})
        assert [call.rehearsed for call in host.calls] == [True, True]
        assert server.taken == []
        await host.close()


def certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, signed by itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "smtp.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return pem
