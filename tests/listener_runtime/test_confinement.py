"""What the operating system denies a sandbox process, whatever runs in it."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import sys
import sysconfig
import textwrap

import psutil
import pytest

from listener_runtime import confinement
from listener_runtime.sandbox_command import CONFINEMENT

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X86, ARM = 0xC000003E, 0xC00000B7
OWN = 4_242


def verdict(program: bytes, number: int, architecture: int, *arguments: int) -> int:
    """What the kernel would do: an interpreter of the instructions that filters are made of."""
    data = struct.pack("<iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(
    ("number", "arguments", "expected"),
    [
        (0, (), ALLOW),  # read
        (9, (), ALLOW),  # mmap
        (41, (), EPERM),  # socket
        (42, (), EPERM),  # connect
        (57, (), EPERM),  # fork
        (101, (), EPERM),  # ptrace
        (425, (), EPERM),  # io_uring_setup
        (435, (), ENOSYS),  # clone3
        (56, (0x3D0F00,), ALLOW),  # clone of a thread
        (56, (17,), EPERM),  # clone of a process
        (62, (OWN, 6), ALLOW),  # kill of itself
        (62, (1, 9), EPERM),
        (234, (OWN, OWN, 6), ALLOW),  # tgkill of itself
        (234, (1, 1, 9), EPERM),
        (0x40000000 + 41, (), KILL),  # the x32 way around
    ],
)
def test_the_filter_decides(number: int, arguments: tuple[int, ...], expected: int) -> None:
    program = confinement.filter_program("x86_64", OWN)
    assert verdict(program, number, X86, *arguments) == expected


def test_another_architecture_ends_the_process_and_the_other_table_is_of_its_own() -> None:
    assert verdict(confinement.filter_program("x86_64", OWN), 0, ARM) == KILL
    arm = confinement.filter_program("aarch64", OWN)
    assert verdict(arm, 198, ARM) == EPERM
    assert verdict(arm, 41, ARM) == EPERM  # pivot_root there
    assert verdict(arm, 63, ARM) == ALLOW  # read there
    assert verdict(arm, 220, ARM, 17) == EPERM


def run_confined(code: str) -> str:
    """What Python prints under confinement, its own library in place of the image."""
    program = os.path.realpath(sys.executable)
    command = (
        *(sys.executable, "-I", "-S", str(CONFINEMENT), str(os.getpid())),
        *(sysconfig.get_paths()["stdlib"], str(1 << 30), program, "-I", "-S", "-c"),
    )
    done = subprocess.run(
        (*command, textwrap.dedent(code)), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "deed",
    [
        "open('/etc/passwd')",
        "open('/tmp/confined', 'w')",
        "os.listdir('/')",
        "socket.socket()",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.execv('/bin/true', ['true'])",
        "os.execv('/bin/sh', ['sh', '-c', 'true'])",
        "os.setuid(0) or open('/etc/shadow')",
        "resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))",
        "os.mkdir('/tmp/confined')",
        "os.truncate('/etc/hostname', 0)",
    ],
)
def test_the_deed_is_denied(deed: str) -> None:
    said = run_confined(
        f"""
        import os, resource, socket
        try:
            {deed}
        except (OSError, ValueError) as error:
            print("denied", type(error).__name__)
        else:
            print("done")
        """
    )
    assert said.startswith("denied"), said


def test_what_a_sandbox_needs_is_not_denied() -> None:
    said = run_confined(
        """
        import threading
        seen = []
        thread = threading.Thread(target=lambda: seen.append(len(bytearray(64 << 20))))
        thread.start()
        thread.join()
        print(seen)
        """
    )
    assert said == f"[{64 << 20}]"


def test_memory_beyond_its_limit_is_refused() -> None:
    said = run_confined(
        """
        try:
            bytearray(2 << 30)
        except MemoryError:
            print("refused")
        """
    )
    assert said == "refused"


def test_the_report_names_each_layer() -> None:
    done = subprocess.run(
        (sys.executable, "-I", "-S", str(CONFINEMENT), "--report"),
        capture_output=True,
        check=True,
    )
    report = json.loads(done.stdout)
    assert set(report) == {
        "resource limits",
        "no-new-privileges",
        "namespaces",
        "landlock",
        "seccomp",
    }
    assert all(found == "on" or found.startswith("not available: ") for found in report.values())
    assert report["resource limits"] == report["no-new-privileges"] == "on"


def test_it_dies_with_the_process_that_started_it() -> None:
    code = (
        "import os, subprocess, sys, time\n"
        f"command = [sys.executable, '-I', '-S', {str(CONFINEMENT)!r}, str(os.getpid()),"
        f" {sysconfig.get_paths()['stdlib']!r}, str(1 << 30), {os.path.realpath(sys.executable)!r},"
        " '-I', '-S', '-c', 'import time; print(1, flush=True); time.sleep(600)']\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone == [child]


def test_a_call_without_a_program_is_told_the_usage() -> None:
    done = subprocess.run(
        (sys.executable, str(CONFINEMENT), "1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "usage" in done.stderr
