"""How this installation's sandbox processes are kept."""

from __future__ import annotations

from infra import artifacts
from listener_runtime.settings import PoolSettings
from rowcast.installation import Installation


def pool_settings(installation: Installation, processes: int | None = None) -> PoolSettings:
    """How the sandbox's processes are kept; `processes` overrides how many."""
    listeners = installation.configuration.listeners
    return PoolSettings(
        image=artifacts.sandbox_image(),
        deno=artifacts.deno(),
        processes=processes or listeners.processes,
        processes_max=processes or listeners.processes_max,
        memory_budget_mb=listeners.memory_budget_mb,
        images=installation.images,
    )
