"""Confines a sandbox process as far as the operating system offers, then becomes it.

    python -I -S confinement.py PARENT_PID IMAGE_FOLDER DATA_BYTES PROGRAM [ARGUMENT...]
    python -I -S confinement.py --report        says, as JSON, which layers there are here

Deno's own denial of every permission is the first wall and does not depend on this one. Each layer
is applied where the kernel has it and left out where not; `rowcast doctor` says which. Must stay a
lone file without imports from the project, since it runs before the program in its place, and
import little, since every sandbox process waits for it.

Sources: landlock(7), seccomp(2), user_namespaces(7), prctl(2).
"""

import ctypes
import errno
import os
import resource
import struct
import sys

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CLONE_NEW = {
    "mount": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "net": 0x40000000,
}
_CLONE_THREAD = 0x00010000

# Numbers of system calls: x86_64, aarch64 (None: there is no such call).
_DENIED = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242),
    "bind": (49, 200), "listen": (50, 201), "fork": (57, None), "vfork": (58, None),
    "ptrace": (101, 117), "syslog": (103, 116), "personality": (135, 92),
    "pivot_root": (155, 41), "chroot": (161, 51), "acct": (163, 89), "mount": (165, 40),
    "umount2": (166, 39), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "iopl": (172, None), "ioperm": (173, None), "init_module": (175, 105),
    "delete_module": (176, 106), "quotactl": (179, 60), "tkill": (200, 130),
    "kexec_load": (246, 104), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "unshare": (272, 97), "perf_event_open": (298, 241),
    "fanotify_init": (300, 262), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "setns": (308, 268), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "finit_module": (313, 273),
    "kexec_file_load": (320, 294), "bpf": (321, 280), "userfaultfd": (323, 282),
    "pidfd_send_signal": (424, 424), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "process_madvise": (440, 440),
    "mount_setattr": (442, 442), "memfd_secret": (447, 447),
}  # fmt: skip
_CLONE3 = 435
_OWN_ONLY = {"kill": (62, 129), "tgkill": (234, 131)}
_CLONE = (56, 220)
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LANDLOCK_CREATE, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_READ = 1 << 2 | 1 << 3
_LANDLOCK_EXECUTE = 1 << 0
# Rights that each version of Landlock knows, from the first on.
_LANDLOCK_FS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_LANDLOCK_NET = 1 << 0 | 1 << 1
_LANDLOCK_SCOPED = 1 << 0 | 1 << 1
_OPEN_FILES = 256
_REPORT_DATA_BYTES = 1 << 30
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")

libc = ctypes.CDLL(None, use_errno=True)


class LayerError(Exception):
    """A layer is not to be had here; the message says why."""


def die_with(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies, and look whether it did in between."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit(75)


def drop_privileges() -> None:
    """Nothing this process or its program execs gains rights by it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def enter_namespaces() -> None:
    """A user without rights outside, a network with no interface, nobody else's IPC or mounts."""
    flags = 0
    for flag in _CLONE_NEW.values():
        flags |= flag
    if libc.unshare(flags) != 0:
        raise LayerError(os.strerror(ctypes.get_errno()))


def restrict_files(program: str, folder: str | None) -> None:
    """Landlock: the program and libraries may be run, the image read, nothing else, no network."""
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        raise LayerError(os.strerror(ctypes.get_errno()))
    rights = max(known for since, known in _LANDLOCK_FS.items() if since <= version)
    net = _LANDLOCK_NET if version >= 4 else 0
    scoped = _LANDLOCK_SCOPED if version >= 6 else 0
    fields = (rights, net, scoped)[: 1 if version < 4 else 2 if version < 6 else 3]
    attributes = struct.pack(f"<{len(fields)}Q", *fields)
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0)
    if ruleset < 0:
        raise LayerError(os.strerror(ctypes.get_errno()))
    _allow(ruleset, program, _LANDLOCK_READ | _LANDLOCK_EXECUTE)
    for library in _LIBRARIES:
        if os.path.isdir(library):  # noqa: PTH112 - no pathlib: it would cost ten milliseconds
            _allow(ruleset, library, _LANDLOCK_READ | _LANDLOCK_EXECUTE)
    if folder is not None:
        _allow(ruleset, folder, _LANDLOCK_READ)
    if libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
        raise LayerError(os.strerror(ctypes.get_errno()))
    os.close(ruleset)


def filter_calls() -> None:
    """Seccomp: no sockets, no new processes, no signals to others, no kernel features."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise LayerError(f"no table of system calls for {machine}")
    program = filter_program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    argument = ctypes.create_string_buffer(fprog, len(fprog))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(argument))


def filter_program(machine: str, own_pid: int) -> bytes:
    """The filter in classic BPF, 8 bytes an instruction."""
    column, architecture = _ARCHITECTURES[machine]
    allow, kill = 0x7FFF0000, 0x80000000
    refuse, absent = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    load, equal, at_least, has_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    # Offsets of struct seccomp_data: nr 0, arch 4, args from 16, low half first.
    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill), (load, 0, 0, 0)]
    if machine == "x86_64":
        code += [(at_least, 0, 1, 0x40000000), (give, 0, 0, kill)]
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            code += [(equal, 0, 1, number), (give, 0, 0, refuse)]
    # clone3 hides its flags behind a pointer; without it the C library takes clone.
    code += [(equal, 0, 1, _CLONE3), (give, 0, 0, absent)]
    code += [(equal, 0, 4, _CLONE[column]), (load, 0, 0, 16), (has_bit, 1, 0, _CLONE_THREAD)]
    code += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    for numbers in _OWN_ONLY.values():
        code += [(equal, 0, 4, numbers[column]), (load, 0, 0, 16), (equal, 1, 0, own_pid)]
        code += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    code += [(give, 0, 0, allow)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def limit_resources(data_bytes: int) -> None:
    """What WebAssembly's own cap does not bound: JavaScript's heap, files, core dumps."""
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def apply(program: str, folder: str | None, data_bytes: int) -> dict[str, str]:
    """Apply every layer; returns for each `on` or why it is not."""
    layers = {
        "resource limits": lambda: limit_resources(data_bytes),
        "no-new-privileges": drop_privileges,
        "namespaces": enter_namespaces,
        "landlock": lambda: restrict_files(program, folder),
        "seccomp": filter_calls,
    }
    found: dict[str, str] = {}
    for name, layer in layers.items():
        try:
            layer()
        except (LayerError, OSError) as error:
            found[name] = f"not available: {error}"
        else:
            found[name] = "on"
    return found


def main(arguments: list[str]) -> int:
    """Become the program; returns an exit status only for a report or a wrong call."""
    if arguments == ["--report"]:
        import json  # noqa: PLC0415 - what only a report needs would hold up every start

        sys.stdout.write(json.dumps(apply(sys.executable, None, _REPORT_DATA_BYTES)))
        return 0
    if len(arguments) < 4:
        sys.stderr.write(
            "usage: confinement.py PARENT_PID IMAGE_FOLDER DATA_BYTES PROGRAM [ARGUMENT...]\n"
        )
        return 64
    parent_pid, folder, data_bytes, *program = arguments
    die_with(int(parent_pid))
    apply(program[0], folder, int(data_bytes))
    os.execv(program[0], program)  # noqa: S606 - a shell in between would be the child
    return 71


def _allow(ruleset: int, path: str, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        # Rights on what is in a folder mean nothing for a file.
        if not os.path.isdir(path):  # noqa: PTH112 - as above
            rights &= ~(1 << 3)
        rule = struct.pack("<Qi", rights, descriptor)
        if libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0) != 0:
            raise LayerError(f"{path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int, more: int = 0) -> None:
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), 0, 0) != 0:
        raise LayerError(os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
