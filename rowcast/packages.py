"""`rowcast packages`: a tenant's third-party packages, from a name to an image that has them.

Everything is made beside what is in use and put in place at the end: an add that fails, at
whatever step, changes nothing. The running router takes the new image for the next process it
starts for the tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from listener_runtime.image import read_fingerprint
from listener_runtime.package_image import build_package_image, put_in_place, remove_image
from listener_runtime.wheel import Wheel, read_wheel
from rowcast.errors import PackageError
from rowcast.installation import Installation
from rowcast.package_lock import PackageFolder, check_hash, locked_tenants
from rowcast.package_resolution import read_requirement, resolve
from rowcast.sandbox_settings import pool_settings

Say = Callable[[str], object]


async def add_packages(
    installation: Installation, tenant: str, wanted: Sequence[str], links: Sequence[Path], say: Say
) -> None:
    """Add packages by name, or wheels by their path, with all that they require."""
    place = PackageFolder(installation.folder, tenant)
    lock = place.read_lock()
    have = {wheel.name: wheel for wheel in place.read_wheels(lock)}
    asked = dict(lock.asked)
    for text in wanted:
        given = _given_wheel(text)
        requirement = read_requirement(f"{given.name}=={given.version}" if given else text)
        name = canonicalize_name(requirement.name)
        asked[name] = str(requirement)
        # Named anew, a package may come in another version than the one there is.
        have.pop(name, None)
        if given:
            have[name] = given
    wheels = await _build(installation, place, asked, have, links, say)
    for wheel in wheels:
        say(f"{wheel.name} {wheel.version}")


async def remove_packages(
    installation: Installation, tenant: str, names: Sequence[str], say: Say
) -> None:
    """Remove packages, and what only they required."""
    place = PackageFolder(installation.folder, tenant)
    lock = place.read_lock()
    asked = dict(lock.asked)
    for name in names:
        if asked.pop(canonicalize_name(name), None) is None:
            known = ", ".join(lock.asked) or "none"
            raise PackageError(
                f"found the package {name!r}, expected one that tenant {tenant} asked for: {known}"
            )
    have = {wheel.name: wheel for wheel in place.read_wheels(lock)}
    await _build(installation, place, asked, have, (), say)
    for name in names:
        say(f"{name} removed")


async def rebuild_images(installation: Installation, tenants: Sequence[str], say: Say) -> None:
    """Build images again from the locked wheels; of all tenants where none is named."""
    for tenant in tenants or locked_tenants(installation.folder):
        place = PackageFolder(installation.folder, tenant)
        lock = place.read_lock()
        have = {wheel.name: wheel for wheel in place.read_wheels(lock)}
        await _build(installation, place, lock.asked, have, (), say)
        say(f"the image of tenant {tenant} was built, with {len(lock.packages)} packages")


def packages_text(installation: Installation, tenant: str | None) -> str:
    """A line a package: tenant, name, version, what for, and the hash."""
    lines: list[str] = []
    for one in [tenant] if tenant else locked_tenants(installation.folder):
        lock = PackageFolder(installation.folder, one).read_lock()
        for package in lock.packages:
            why = lock.asked.get(package.name, "required by another")
            lines.append(f"{one}  {package.name} {package.version}  ({why})  {package.sha256}")
    return "\n".join(lines) or "no packages; `rowcast packages add NAME` adds one"


def image_trouble(installation: Installation, tenant: str) -> str | None:
    """What is wrong with the image of a tenant that has packages, if anything is."""
    standard = pool_settings(installation).image
    image = installation.images / tenant
    if not image.is_dir():
        return "its image is missing"
    if read_fingerprint(image) != read_fingerprint(standard):
        return "its image was made by another version of Deno, Pyodide or the sandbox"
    return None


async def _build(
    installation: Installation,
    place: PackageFolder,
    asked: Mapping[str, str],
    have: Mapping[str, Wheel],
    links: Sequence[Path],
    say: Say,
) -> list[Wheel]:
    lock = place.read_lock()
    wheels = resolve([Requirement(text) for text in asked.values()], have, links)
    for wheel in wheels:
        if wheel is not have.get(wheel.name):
            check_hash(wheel, lock)
    if not wheels:
        remove_image(installation.images, place.tenant)
        place.write(asked, wheels)
        return wheels
    settings = pool_settings(installation)
    built = await build_package_image(settings, installation.images, wheels, asked)
    for module, why in built.not_imported.items():
        say(f"warning: {module} could not be imported beforehand ({why})")
    place.write(asked, wheels)
    put_in_place(built, installation.images, place.tenant)
    return wheels


def _given_wheel(text: str) -> Wheel | None:
    """The wheel that a path names; None for what is no path."""
    if "://" in text:
        return None
    file = Path(text)
    if not text.endswith(".whl"):
        if "/" in text or file.is_file():
            raise PackageError(f"found {text!r}, expected NAME, NAME==VERSION or a .whl's path")
        return None
    if not file.is_file():
        raise PackageError(f"{file} was not found, expected a wheel there")
    return read_wheel(file.name, file.read_bytes())
