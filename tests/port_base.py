"""Ports for servers and installations of a test's own.

Below the range from which the kernel takes ports for clients, so that none is taken between the
look and the start.
"""

from __future__ import annotations

import random
import socket

_COUNT = 10


def free_port_base() -> int:
    """The first of ten neighbouring ports that are all free at this moment."""
    while True:
        base = random.randrange(10_000, 20_000, 10)
        if all(_is_free(base + number) for number in range(_COUNT)):
            return base


def free_ports(count: int) -> list[int]:
    """Ports free at this moment, all different."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        if _is_free(port):
            found.add(port)
    return list(found)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
