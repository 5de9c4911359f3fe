"""What `rowcast up` prints once everything runs: addresses, a token, what the example tells."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping

from events.token import make_token
from infra import artifacts
from rowcast.example_files import try_text
from rowcast.installation import Installation

TOKEN_LIFETIME_S = 24 * 3600.0


def welcome(installation: Installation, took_s: float) -> str:
    """The text, for an installation that has just got ready."""
    token = _token(installation, "developer")
    lines = [
        "",
        f"Rowcast is ready ({took_s:.1f} s). State and logs: {installation.folder}",
        "",
        f"  http   {installation.http_url}",
        f"  kafka  {installation.cluster.bootstrap}",
        *(f"  {name:<6} {installation.dsn(name)}" for name in installation.configuration.sources),
        f"  rest   {installation.http_url}/rest/v1/",
        f"  token  {token}",
        "",
    ]
    values = _Values(installation, token)
    for name in installation.configuration.examples:
        lines += try_text(name, values).splitlines()
        lines.append("")
    return "\n".join([*lines, "Ctrl-C stops everything; nothing is lost."])


class _Values(Mapping[str, str]):
    """What stands in an example's try.txt; `token_NAME` is a token of that subject."""

    def __init__(self, installation: Installation, token: str) -> None:
        self._installation = installation
        self._known = {
            "http": installation.http_url,
            "token": token,
            "dsn": installation.dsn("shop") if "shop" in installation.configuration.sources else "",
            "psql": shutil.which("psql") or str(artifacts.postgres_bin() / "psql"),
            "rowcast": shutil.which("rowcast") or ".venv/bin/rowcast",
            "dir": str(installation.folder),
            "logs": str(installation.logs),
        }

    def __getitem__(self, name: str) -> str:
        if name in self._known:
            return self._known[name]
        kind, _, subject = name.partition("_")
        if kind == "token" and subject:
            return _token(self._installation, subject)
        if kind == "port" and subject.isdecimal():
            return str(self._installation.port_base + int(subject))
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _token(installation: Installation, subject: str) -> str:
    return make_token(
        installation.jwt_secret, "authenticated", subject, TOKEN_LIFETIME_S, now=time.time()
    )
