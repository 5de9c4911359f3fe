"""What `rowcast up` prints once everything runs: addresses, a token, four things to try."""

from __future__ import annotations

import shutil
import time

from events.token import make_token
from infra import artifacts
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
        f"  rest   {installation.http_url}/rest/v1/",
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
        "Four things to try:",
        f"  1. open {installation.http_url}/#token={token}",
        "     and watch orders arrive;",
        "  2. pay an order, which runs the listeners order_paid and order_receipt:",
        f"     {psql} '{installation.dsn('shop')}' \\",
        "       -c \"update orders set status = 'paid' where id = 1\"",
        "  3. see what they did, and every event as it comes:",
        f"     {command} runs{there}",
        f"     {command} tail{there}",
        "  4. ask for the orders over HTTP, in PostgREST's query language; supabase-js works too:",
        f"     curl -gH 'apikey: {token}' \\",
        f"       '{installation.http_url}/rest/v1/orders?select=id,total,customer:users(name)'",
        "",
        "Ctrl-C stops everything; nothing is lost.",
    ]
