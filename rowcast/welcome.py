"""What `rowcast up` prints once everything runs: addresses, a token, three things to try."""

from __future__ import annotations

import shutil
import time

from infra import artifacts
from push.token import make_token
from rowcast.installation import Installation

TOKEN_LIFETIME_S = 24 * 3600.0


def welcome(installation: Installation, took_s: float) -> str:
    """The text, for an installation that has just got ready."""
    token = make_token(
        installation.jwt_secret, "authenticated", "developer", TOKEN_LIFETIME_S, now=time.time()
    )
    lines = [
        "",
        f"Rowcast is ready ({took_s:.1f} s). State and logs: {installation.folder}",
        "",
        f"  http   {installation.http_url}",
        f"  kafka  {installation.cluster.bootstrap}",
        *(f"  {name:<6} {installation.dsn(name)}" for name in installation.configuration.sources),
        f"  token  {token}",
        "",
    ]
    if installation.configuration.example == "shop":
        lines += _things_to_try(installation, token)
    return "\n".join(lines)


def _things_to_try(installation: Installation, token: str) -> list[str]:
    psql = shutil.which("psql") or str(artifacts.postgres_bin() / "psql")
    there = f" --dir {installation.folder}"
    command = shutil.which("rowcast") or ".venv/bin/rowcast"
    return [
        "Three things to try:",
        f"  1. open {installation.http_url}/#token={token}",
        "     and watch orders arrive;",
        "  2. pay an order, which runs the listeners order_paid and order_receipt:",
        f"     {psql} '{installation.dsn('shop')}' \\",
        "       -c \"update orders set status = 'paid' where id = 1\"",
        "  3. see what they did, and every event as it comes:",
        f"     {command} runs{there}",
        f"     {command} tail{there}",
        "",
        "Ctrl-C stops everything; nothing is lost.",
    ]
