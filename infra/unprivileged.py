"""Running a server as another user where it refuses to run as root.

PostgreSQL will not run as root, and a clone may lie where nobody else can enter (`/root`, a
folder of `mktemp -d`). The kernel can give the other user just the right to enter folders and
read files (CAP_DAC_READ_SEARCH), through setpriv of util-linux, and only where it is needed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path

from infra.errors import ServerStartError

USER = "nobody"


def unprivileged_prefix(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """What root puts before a command to run it as `nobody`, able to enter the paths."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerStartError(
            "PostgreSQL refuses to run as root and setpriv was not found; expected it in PATH. "
            "Install util-linux, or run Rowcast as another user"
        )
    user = pwd.getpwnam(USER)
    prefix = (setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    if not all(_enterable(path) for path in paths):
        prefix += ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return (*prefix, "--")


def give_to_unprivileged(folder: Path) -> None:
    """Make a folder the other user's own where we are root."""
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)


def _enterable(path: Path) -> bool:
    """Whether any user can reach a path: each folder above it lets others search it."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents) and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents
    )
