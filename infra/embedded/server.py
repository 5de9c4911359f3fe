"""What every embedded server can do; the supervisor knows no more of them than this."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from infra.errors import ServerStartError
from infra.process import ProcessSpec


class EmbeddedServer(Protocol):
    """A server that Rowcast starts itself."""

    @property
    def name(self) -> str:
        """The name of its process."""
        ...

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports it takes on loopback."""
        ...

    def prepare(self) -> None:
        """Make its folder ready; idempotent, may take seconds. Raises ServerStartError."""
        ...

    def process(self) -> ProcessSpec:
        """How it is started and stopped."""
        ...

    async def answers(self) -> bool:
        """Whether it serves now; false, not an exception, where it does not."""
        ...

    async def initialise(self) -> None:
        """What must be done once it answers, every time; idempotent."""
        ...


async def listens(port: int) -> bool:
    """Whether anybody takes connections on a loopback port.

    Asked before a client is: one that meets nobody complains loudly, or goes on trying behind.
    """
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def check_port_free(name: str, port: int) -> None:
    """Raise ServerStartError with the mend where something listens on a loopback port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Ports in TIME_WAIT after a stop are free for the servers, which set this option too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerStartError(
                f"port {port} on 127.0.0.1, wanted for {name}, is in use ({error.strerror}). "
                "Stop what listens there, or choose other ports with "
                "`rowcast up --port-base N` (or `port_base = N` in rowcast.toml)"
            ) from error
