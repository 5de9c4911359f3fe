"""Starts a program that dies with its parent, whatever kills the parent.

Run as a script, before the program takes its place (`exec`): it asks the kernel for a signal on
the parent's death (prctl(2), PR_SET_PDEATHSIG), then looks whether the parent died in between.
It must stay a lone file without imports from the project, since it also runs as another user.

    python -I -S launcher.py PARENT_PID DEATH_SIGNAL PROGRAM [ARGUMENT...]
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_USAGE_EXIT = 64
_PARENT_GONE_EXIT = 75


def main(arguments: list[str]) -> int:
    """Become the program; returns an exit status only where that fails."""
    if len(arguments) < 3:
        sys.stderr.write("usage: launcher.py PARENT_PID DEATH_SIGNAL PROGRAM [ARGUMENT...]\n")
        return _USAGE_EXIT
    parent_pid, death_signal, *program = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() == int(parent_pid):
        os.execvp(program[0], program)  # noqa: S606 - a shell in between would be the child
    return _PARENT_GONE_EXIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
