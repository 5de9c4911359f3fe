"""Ports for an installation of a test's own."""

from __future__ import annotations

import random
import socket

_COUNT = 5


def free_port_base() -> int:
    """The first of five neighbouring ports that are all free at this moment.

    Below the range from which the kernel takes ports for clients, so that none is taken between
    this look and the start.
    """
    while True:
        base = random.randrange(10_000, 32_000, 10)
        if all(_is_free(base + number) for number in range(_COUNT)):
            return base


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
