"""From what was asked for to wheels: pip fetches, and we follow what they require.

pip is only ever asked for wheels, one level at a time (`--no-deps`): following a requirement that
is an address would make it build, that is run, a stranger's code out here. It is also the guest's
interpreter, not ours, for which environment markers are read. There is no backtracking: what all
requirements of a package together allow is what is asked for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from listener_runtime.wheel import ABI, PLATFORM, PYTHON, Wheel, read_wheel
from rowcast.errors import PackageError

_MAX_ROUNDS: Final = 30
_PIP_LIMIT_S: Final = 600.0
_GUEST: Final = {
    "implementation_name": "cpython",
    "implementation_version": PYTHON,
    "os_name": "posix",
    "platform_machine": "wasm32",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Emscripten",
    "platform_version": "",
    "python_full_version": PYTHON,
    "python_version": PYTHON.rpartition(".")[0],
    "sys_platform": "emscripten",
}


def read_requirement(text: str) -> Requirement:
    """A requirement as a user may write it: a name, extras, versions; never an address."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise PackageError(
            f"found {text!r}, expected NAME, NAME==VERSION or the path of a .whl: {error}"
        ) from error
    if requirement.url is not None:
        raise PackageError(
            f"found the address in {text!r}, expected NAME or NAME==VERSION; what is not in a "
            "registry goes by the path of its .whl"
        )
    return requirement


def resolve(
    asked: Sequence[Requirement], have: Mapping[str, Wheel], links: Sequence[Path]
) -> list[Wheel]:
    """All wheels that are needed; those we `have`, by name, are kept where their version will do.

    Raises PackageError where a package has no wheel that fits, WheelError for a bad one.
    """
    wanted: dict[str, Requirement] = {}
    wheels: dict[str, Wheel] = {}
    pending = list(asked)
    for _ in range(_MAX_ROUNDS):
        changed = {
            canonicalize_name(requirement.name)
            for requirement in pending
            if _add(wanted, requirement)
        }
        for name in changed:
            if name not in wheels or not _allows(wanted[name], wheels[name]):
                ours = have.get(name)
                fits = ours is not None and _allows(wanted[name], ours)
                wheels[name] = ours if ours and fits else _fetch(wanted[name], links)
        if not changed:
            return _needed(asked, wheels)
        pending = [one for name in sorted(changed) for one in _required(wheels[name], wanted[name])]
    raise PackageError(f"found requirements that change without end: {', '.join(sorted(wanted))}")


def _allows(requirement: Requirement, wheel: Wheel) -> bool:
    return requirement.specifier.contains(wheel.version, prereleases=True)


def _add(wanted: dict[str, Requirement], requirement: Requirement) -> bool:
    """Lay a requirement over those there are; returns whether that asks for anything new."""
    name = canonicalize_name(requirement.name)
    before = wanted.get(name)
    if before is None:
        merged = Requirement(str(requirement))
        merged.marker = None
        wanted[name] = merged
        return True
    merged = Requirement(str(before))
    merged.specifier &= requirement.specifier
    merged.extras |= requirement.extras
    wanted[name] = merged
    return str(merged) != str(before)


def _required(wheel: Wheel, requirement: Requirement) -> list[Requirement]:
    """What a wheel requires where it is installed with these extras, in the guest."""
    found: list[Requirement] = []
    for text in wheel.requires:
        try:
            one = Requirement(text)
        except InvalidRequirement as error:
            raise PackageError(f"{wheel.file} requires {text!r}, which means nothing") from error
        environments = [{**_GUEST, "extra": extra} for extra in ("", *requirement.extras)]
        if one.marker is not None and not any(map(one.marker.evaluate, environments)):
            continue
        if one.url is not None:
            raise PackageError(
                f"{wheel.file} requires {one.name} from an address, which is not followed; add "
                f"a wheel of {one.name} by its path with --find-links"
            )
        found.append(one)
    return found


def _needed(asked: Sequence[Requirement], wheels: Mapping[str, Wheel]) -> list[Wheel]:
    """Without what only an earlier choice of a version had asked for."""
    found: dict[str, Wheel] = {}
    pending = list(asked)
    seen: set[str] = set()
    while pending:
        requirement = pending.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        wheel = wheels[canonicalize_name(requirement.name)]
        found[wheel.name] = wheel
        pending += _required(wheel, requirement)
    return [found[name] for name in sorted(found)]


def _fetch(requirement: Requirement, links: Sequence[Path]) -> Wheel:
    with tempfile.TemporaryDirectory(prefix="rowcast-packages-") as target:
        command = (
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"),
            *("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", target),
            *("--platform", PLATFORM, "--python-version", PYTHON, "--implementation", "cp"),
            *("--abi", ABI, "--abi", "abi3", "--abi", "none"),
            *(part for link in links for part in ("--find-links", str(link))),
            f"{requirement.name}{requirement.specifier}",
        )
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=_PIP_LIMIT_S
        )
        files = list(Path(target).iterdir())
        if done.returncode == 0 and len(files) == 1:
            return read_wheel(files[0].name, files[0].read_bytes())
    raise PackageError(
        f"found no wheel of {requirement} that runs in the sandbox (pip: {_said(done.stderr)}), "
        f"expected one of pure Python (py3-none-any) or for Pyodide ({ABI}-{ABI}-{PLATFORM}). "
        "Ask for another version, or build such a wheel (`pip wheel`, `pyodide build`) and "
        "add it by its path"
    )


def _said(stderr: str) -> str:
    """Pip's own reason, without the addresses that it looked at."""
    lines = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if "ERROR: " in line]
    first = lines[0] if lines else stderr.strip()[-300:]
    return " ".join(word for word in first.split() if "://" not in word)[:600] or "no reason given"
