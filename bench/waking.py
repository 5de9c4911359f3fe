"""Keeps the cores awake while one client is measured.

A virtual core that falls asleep between a statement and the next takes long to wake: pgbench's
select-only run with one client is three times as fast beside an idle loop. Contestants that
keep a core busy by themselves would gain what others lose.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

_LOOP = "import os\nos.nice(19)\nwhile True: pass"


@contextmanager
def awake() -> Generator[None]:
    """A loop for each core meanwhile, that gives way to everything else."""
    loops = [subprocess.Popen((sys.executable, "-c", _LOOP)) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
