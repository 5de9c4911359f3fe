"""The rowcast.toml that `rowcast up` writes into a new folder."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence

import tomli_w

from rowcast.example_files import settings_text

_DEFAULT_FILE = """\
# What Rowcast captures and how it runs. What has no address is embedded: `rowcast up` starts it.
# Every key is described in docs/configuration.md; ROWCAST__A__B in the environment sets a.b.

# Ports: this one HTTP, then Kafka, PostgreSQL, MongoDB, and inner ones.
port_base = {port_base}

# The example that `up` loads once: tables, collections, listeners and a page; or a list of them.
example = {example}

[sources.shop]
kind = "postgres"
# dsn = "postgresql://user:password@host:5432/database"   # a PostgreSQL of your own

[sources.docs]
kind = "mongo"
database = "shop"
# dsn = "mongodb://host:27017/?replicaSet=rs0"            # a MongoDB of your own
"""
_DEFAULT_TABLES = {
    "listeners": """
[listeners.http]
# Which addresses listeners may call with g.http, e.g. ["api.example.com:443"].
allow = []
""",
    "secrets": """
[secrets]
# What listeners read with g.secrets.get("NAME").
""",
}


def new_configuration(port_base: int, examples: Sequence[str]) -> str:
    """The text of a new rowcast.toml, with what some examples need."""
    shown = tomli_w.dumps({"example": examples[0] if len(examples) == 1 else [*examples]})
    needed = settings_text(examples, port_base)
    head = _DEFAULT_FILE.replace("{port_base}", str(port_base))
    tables = tomllib.loads(needed)
    rest = "".join(text for name, text in _DEFAULT_TABLES.items() if name not in tables)
    return head.replace("example = {example}", shown.strip()) + rest + needed
