"""Modules from their files to the runs that use them."""

from __future__ import annotations

import pytest

from tests.integration.live_installation import LiveInstallation, wait_until

pytestmark = pytest.mark.integration

LISTENER = """
# /// rowcast
# on = "custom.priced"
# modules = ["pricing_rules"]
# ///
import pricing_rules

def main(event, g):
    return pricing_rules.price(event["data"])
"""
MODULE = """
# /// rowcast
# module = "pricing_rules"
# ///
def price(total):
    return total * {factor}
"""


def test_a_module_is_applied_shown_used_changed_and_deleted(live: LiveInstallation) -> None:
    folder = live.folder / "test-modules"
    folder.mkdir()
    listener, module = folder / "priced.py", folder / "any_name.py"
    listener.write_text(LISTENER)
    refused = live.command("apply", str(listener), check=False)
    assert refused.returncode != 0
    assert "found modules = ['pricing_rules'], expected modules that are applied" in refused.stderr
    module.write_text(MODULE.format(factor=2))
    said = live.command("apply", str(folder)).stdout
    assert "pricing_rules (version 1) module" in said
    assert "module" in live.command("get").stdout
    assert "def price(total)" in live.command("get", "pricing_rules").stdout
    live.emit("custom.priced", 21)
    live.wait_for_runs("priced", 1)
    module.write_text(MODULE.format(factor=3))
    assert "(version 2)" in live.command("apply", str(module)).stdout

    def seen() -> list[str] | None:
        live.emit("custom.priced", 21)
        results = [str(run["result"]) for run in live.runs("priced")]
        return results if "63" in results else None

    results = wait_until(seen, "a run with the changed module")
    assert results[0] == "42"
    assert set(results) == {"42", "63"}
    in_use = live.command("delete", "pricing_rules", check=False)
    assert "is used by priced" in in_use.stderr
    live.command("delete", "priced", "pricing_rules")
    assert "pricing_rules" not in live.command("get").stdout
