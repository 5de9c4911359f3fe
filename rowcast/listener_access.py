"""What embedded databases need before listeners write to them.

The record of effects, by which a retry does not repeat what was done (docs/listeners.md), belongs
to the database's owner; listeners work as another role. In a database of the user's own the record
is made on the first write, where its role may.
"""

from __future__ import annotations

from infra.embedded.postgres import LISTENER_ROLE
from listener_runtime.postgres_effects import ensure_effects
from rowcast.installation import Installation


async def prepare_listener_access(installation: Installation) -> None:
    """Make the record of effects in each embedded PostgreSQL database; idempotent."""
    for name, source in installation.configuration.sources.items():
        if source.kind == "postgres" and not source.dsn:
            await ensure_effects(installation.dsn(name), LISTENER_ROLE)
