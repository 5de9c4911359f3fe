"""What is needed to start, stop and name one process of an installation."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from infra.unprivileged import unprivileged_prefix

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A program under the supervisor.

    `stop_signal` asks it to stop cleanly and `stop_timeout_s` is how long it may take;
    `death_signal` is what the kernel sends it when the supervisor is gone. `environment` is
    added to our own. `reaches` names paths it must be able to enter; where it is set, root
    starts the program as another user.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 15.0
    death_signal: signal.Signals = signal.SIGKILL
    reaches: tuple[Path, ...] | None = None

    def command(self) -> tuple[str, ...]:
        """The whole command line, to be started by the process that calls this."""
        launched = (*launch_prefix(self.death_signal), *self.argv)
        if self.reaches is None or os.geteuid() != 0:
            return launched
        paths = (*self.reaches, Path(sys.executable), LAUNCHER)
        return (*unprivileged_prefix(paths), *launched)


def launch_prefix(death_signal: signal.Signals = signal.SIGKILL) -> tuple[str, ...]:
    """What to put before a command so that it dies with the process that calls this."""
    return (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(death_signal)))
