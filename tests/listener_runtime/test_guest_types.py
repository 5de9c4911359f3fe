"""The types that editors are given are those of the real `g`."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import rowcast_guest
from listener_runtime.pool import SandboxPool
from tests.listener_runtime.sandbox_runs import result

GUEST = Path(rowcast_guest.__file__).parent.parent / "listener_runtime" / "guest" / "guest.py"
SHARED = (
    "G",
    "Database",
    "Collection",
    "Http",
    "Log",
    "Schedule",
    "Secrets",
    "Cache",
    "Mail",
    "State",
    "Response",
)


def real_methods(name: str) -> dict[str, list[str]]:
    """Public methods of a class of guest.py and the names of their parameters."""
    (found,) = (
        node
        for node in ast.parse(GUEST.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    return {
        node.name: [one.arg for one in (*node.args.args, *node.args.kwonlyargs)]
        for node in found.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
    }


@pytest.mark.parametrize("name", SHARED)
def test_methods_and_parameters_are_those_of_the_guest(name: str) -> None:
    kind: object = getattr(rowcast_guest, name)
    told: dict[str, list[str]] = {}
    for method in dir(kind):
        function = inspect.getattr_static(kind, method)
        function = function.fget if isinstance(function, property) else function
        if not method.startswith("_") and inspect.isfunction(function):
            told[method] = [
                parameter.name
                for parameter in inspect.signature(function).parameters.values()
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            ]
    real = real_methods(name)
    real.pop("query", None)
    told.pop("query", None)
    assert told == real


@pytest.mark.integration
@pytest.mark.anyio
async def test_the_import_works_in_the_sandbox(pool: SandboxPool) -> None:
    code = """
    from rowcast_guest import Event, G

    async def main(event: Event, g: G):
        return isinstance(g, G)
    """
    assert await result(pool, code) is True
