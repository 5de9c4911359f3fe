"""[smtp] of rowcast.toml: the server that takes the mails of listeners and triggers."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal, TypeAlias

import msgspec

from events.errors import MailError
from events.mail import read_address
from listener_runtime.settings import SmtpSettings
from rowcast.errors import ConfigurationError

_Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_USUAL_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class MailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[smtp]: no `host` means no mails; `port` 0 means the usual one for `tls`.

    `password_secret` names one of [secrets] that holds the password; `password` holds it itself,
    and is then nothing that listeners can read.
    """

    host: str = ""
    port: _Port = 0
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = ""
    password_secret: str = ""
    sender: str = msgspec.field(default="", name="from")
    domains: tuple[str, ...] = ()


def smtp_settings(mail: MailSettings, secrets: Mapping[str, str]) -> SmtpSettings:
    """What sends mails is given; raises ConfigurationError for settings that cannot work."""
    if not mail.host:
        return SmtpSettings()
    try:
        read_address("from", mail.sender)
    except MailError as error:
        raise ConfigurationError(f"[smtp]: {error}") from error
    if mail.user and mail.tls == "none" and not _is_this_machine(mail.host):
        raise ConfigurationError(
            f"[smtp]: found `user` and tls = 'none' for {mail.host}, expected 'starttls' or 'tls', "
            "since anybody on the way could read the password"
        )
    password = mail.password
    if mail.password_secret:
        if mail.password or mail.password_secret not in secrets:
            raise ConfigurationError(
                f"[smtp]: found password_secret = {mail.password_secret!r}, expected the name of "
                "one of [secrets], and no `password` beside it"
            )
        password = secrets[mail.password_secret]
    port = mail.port or _USUAL_PORTS[mail.tls]
    domains = tuple(domain.lower() for domain in mail.domains)
    return SmtpSettings(mail.host, port, mail.tls, mail.user, password, mail.sender, domains)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
