"""`rowcast verify` as a user runs it on an installation that runs."""

from __future__ import annotations

import json

import pytest

from tests.integration.live_installation import LiveInstallation

pytestmark = pytest.mark.integration


def test_verify_compares_the_shops_tables_and_says_so(live: LiveInstallation) -> None:
    done = live.command("verify", "shop")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("ok      public.orders: ")], done.stdout
    assert lines[-1].startswith("no differences, shop up to ")
    assert "waiting until capture has passed" in done.stderr


def test_verify_gives_one_table_as_json(live: LiveInstallation) -> None:
    found = json.loads(live.command("verify", "shop", "users", "--json").stdout)
    assert found["differences"] == 0
    (table,) = found["tables"]
    assert (table["schema"], table["table"], table["topic"]) == (
        "public",
        "users",
        "shop.public.users",
    )
    assert table["rows"] >= 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "expected one of [sources]"),
        (("docs",), "collections are not compared yet"),
        (("shop", "nothing"), "expected one of public."),
    ],
)
def test_verify_names_what_cannot_be_compared(
    live: LiveInstallation, arguments: tuple[str, ...], said: str
) -> None:
    done = live.command("verify", *arguments, check=False)
    assert done.returncode == 2
    assert said in done.stderr
