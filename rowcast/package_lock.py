"""DIR/packages/<tenant>.lock: which packages a tenant asked for, and exactly what it got.

The wheels lie beside it, in DIR/packages/<tenant>/. Every rebuild reads them again and takes
nothing whose hash is not the locked one. No address stands in the lock: where a wheel came from
does not matter, what it is does.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import tomli_w

from listener_runtime.tenant_images import is_tenant_name
from listener_runtime.wheel import Wheel, read_wheel
from rowcast.errors import PackageError

_HEAD: Final = "# Written by `rowcast packages`; the wheels are in the folder beside it.\n"


class LockedPackage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wheel."""

    name: str
    version: str
    file: str
    sha256: str


class PackageLock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a tenant: `asked` are requirements as they were asked for, by name."""

    asked: dict[str, str] = {}
    packages: tuple[LockedPackage, ...] = ()


@dataclass(frozen=True, slots=True)
class PackageFolder:
    """The packages of one tenant in an installation."""

    installation: Path
    tenant: str

    def __post_init__(self) -> None:
        if not is_tenant_name(self.tenant):
            raise PackageError(
                f"found the tenant {self.tenant!r}, expected letters, digits, _ and -"
            )

    @property
    def lock_file(self) -> Path:
        """The lock."""
        return self.installation / "packages" / f"{self.tenant}.lock"

    @property
    def wheels(self) -> Path:
        """Folder of the wheels."""
        return self.installation / "packages" / self.tenant

    def read_lock(self) -> PackageLock:
        """What is locked; an empty lock where there is none."""
        if not self.lock_file.exists():
            return PackageLock()
        try:
            return msgspec.toml.decode(self.lock_file.read_bytes(), type=PackageLock)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PackageError(
                f"{self.lock_file} is damaged ({error}), expected what `rowcast packages` wrote; "
                "delete it and add the packages again"
            ) from error

    def read_wheels(self, lock: PackageLock) -> list[Wheel]:
        """The locked wheels; raises PackageError where one is missing or is another by now."""
        found: list[Wheel] = []
        for package in lock.packages:
            file = self.wheels / Path(package.file).name
            if not file.exists():
                raise PackageError(f"{file} is missing; add {package.name} again")
            wheel = read_wheel(file.name, file.read_bytes())
            check_hash(wheel, lock)
            found.append(wheel)
        return found

    def write(self, asked: Mapping[str, str], wheels: Sequence[Wheel]) -> None:
        """Take the place of what was locked."""
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        if not wheels:
            self.lock_file.unlink(missing_ok=True)
            shutil.rmtree(self.wheels, ignore_errors=True)
            return
        self.wheels.mkdir(exist_ok=True)
        for wheel in wheels:
            (self.wheels / wheel.file).write_bytes(wheel.content)
        ordered = sorted(wheels, key=lambda wheel: wheel.name)
        locked = (LockedPackage(one.name, one.version, one.file, one.sha256) for one in ordered)
        lock = PackageLock(dict(sorted(asked.items())), tuple(locked))
        new = self.lock_file.with_suffix(".new")
        new.write_text(_HEAD + tomli_w.dumps(msgspec.to_builtins(lock)))
        new.replace(self.lock_file)
        for file in self.wheels.iterdir():
            if file.name not in {wheel.file for wheel in wheels}:
                file.unlink()


def check_hash(wheel: Wheel, lock: PackageLock) -> None:
    """Raise PackageError where the locked version of a package has another content by now."""
    for package in lock.packages:
        if (package.name, package.version) == (wheel.name, wheel.version) and (
            package.sha256 != wheel.sha256
        ):
            raise PackageError(
                f"found {wheel.file} with the SHA-256 {wheel.sha256}, expected the locked "
                f"{package.sha256}: it is not the file that was added. Take it only if you know "
                f"why it changed: rowcast packages remove {wheel.name}, then add it again"
            )


def locked_tenants(installation: Path) -> list[str]:
    """Tenants that have packages."""
    return sorted(file.stem for file in (installation / "packages").glob("*.lock"))
