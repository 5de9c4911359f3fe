"""The command line of a sandbox process: Deno with every permission denied, confined.

Pure. `DENO_DIR` names a place that cannot exist, since Deno would else keep caches and
localStorage in the home directory, flags or no flags.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

ENVIRONMENT: Final = {"NO_COLOR": "1", "DENO_DIR": "/dev/null/x"}
"""The whole of it."""

CONFINEMENT: Final = Path(__file__).with_name("confinement.py")

PAGE_BYTES: Final = 64 * 1024
_MIB: Final = 1024 * 1024
_YOUNG_MB: Final = 1
"""JavaScript's young objects: V8 would let their space grow from run to run, by 50 MiB in all."""

_STANDARD_MB: Final = 256
_DATA_BYTES: Final = 1024 * _MIB
"""Deno boots in 768 MiB; beside WebAssembly's memory this leaves JavaScript half a gigabyte."""

_DENIED: Final = ("read", "net", "run", "write", "env", "ffi", "sys", "import")


def sandbox_command(deno: Path, program: Path, memory_mb: int) -> tuple[str, ...]:
    """Run a program of the image; `memory_mb` caps WebAssembly memory, whatever the guest does."""
    pages = memory_mb * _MIB // PAGE_BYTES
    v8 = (
        f"--disallow-code-generation-from-strings,--wasm-max-mem-pages={pages}"
        f",--max-semi-space-size={_YOUNG_MB}"
    )
    return (
        str(deno),
        "run",
        *("--no-prompt", "--no-remote", "--no-npm", "--cached-only", "--no-config", "--no-lock"),
        *("--no-check", "--no-code-cache", "--unstable-raw-imports", "--quiet"),
        *(f"--deny-{permission}" for permission in _DENIED),
        f"--v8-flags={v8}",
        str(program),
    )


def confined_command(deno: Path, program: Path, memory_mb: int) -> tuple[str, ...]:
    """The same, begun by confinement.py, which makes it die with the process that calls this."""
    data_bytes = _DATA_BYTES + max(0, memory_mb - _STANDARD_MB) * _MIB
    return (
        *(sys.executable, "-I", "-S", str(CONFINEMENT)),
        *(str(os.getpid()), str(program.parent), str(data_bytes)),
        *sandbox_command(deno, program, memory_mb),
    )
