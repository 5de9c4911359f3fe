"""Modules that a listener names are imported like any other, and belong to the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from listener_runtime.pool import SandboxPool
from tests.listener_runtime.sandbox_runs import request

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

IMPORTS = """
import pricing

def main(event, g):
    assert g.modules.pricing is pricing
    return pricing.with_tax(event)
"""
PRICING = """
from rates import TAX

def with_tax(total):
    if total is None:
        raise ValueError("no total")
    return total * (1 + TAX)
"""
RATES = {"rates": "TAX = 1"}


async def test_a_module_is_imported_with_those_it_imports(pool: SandboxPool) -> None:
    outcome = await pool.run(request(IMPORTS, 5, modules={"pricing": PRICING, **RATES}))
    assert outcome.result == 10, outcome.error


async def test_a_mistake_in_a_module_is_told_with_its_lines(pool: SandboxPool) -> None:
    outcome = await pool.run(request(IMPORTS, None, modules={"pricing": PRICING, **RATES}))
    error = str(outcome.error)
    assert '  File "listener.py", line 6, in main\n' in error
    assert '  File "pricing.py", line 6, in with_tax\n    raise ValueError("no total")\n' in error
    assert "_runner" not in error


async def test_a_module_that_does_not_parse_is_told_with_its_line(pool: SandboxPool) -> None:
    outcome = await pool.run(request(IMPORTS, 1, modules={"pricing": "x = 1\ndef f(:\n"}))
    assert 'File "pricing.py", line 2' in str(outcome.error)
    assert "SyntaxError" in str(outcome.error)


async def test_a_module_that_is_not_named_is_not_there(single: SandboxPool) -> None:
    modules = {"pricing": PRICING, **RATES}
    assert (await single.run(request(IMPORTS, 5, modules=modules))).result == 10
    outcome = await single.run(request(IMPORTS, 5))
    assert "No module named 'pricing'" in str(outcome.error)
    outcome = await single.run(request("def main(event, g): g.modules.pricing", modules=RATES))
    assert "expected one that the header names in modules = [...]: rates" in str(outcome.error)


async def test_a_module_does_not_take_the_place_of_a_standard_one(pool: SandboxPool) -> None:
    code = "def main(event, g):\n    import colorsys\n    return hasattr(colorsys, 'rgb_to_hsv')"
    outcome = await pool.run(request(code, modules={"colorsys": "x = 1"}))
    assert outcome.result is True


async def test_a_changed_module_is_used_by_a_warm_interpreter_too(single: SandboxPool) -> None:
    results: list[object] = []
    for tax in (1, 1, 2):
        modules = {"pricing": PRICING, "rates": f"TAX = {tax}"}
        run = replace(request(IMPORTS, 5, modules=modules), reuse=True)
        results.append((await single.run(run)).result)
    assert results == [10, 10, 15]
