"""Makes a tenant's image: the standard one, and the tenant's packages beside it.

Packages are not in the snapshot: the snapshot is taken before the bridge to JavaScript is closed,
and no code of a package may run before that; native code could not be in it anyway. Each process
imports them instead once it is sealed, before its memory is remembered as the pristine one, so no
run pays for it. Sources are compiled beforehand, inside the sandbox, which is what most of an
import costs; a process started on trial says what could not be imported.

Nothing of a package may ever run outside the sandbox, here least of all.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from events.chain import Chain
from events.json_codec import encode
from events.run import RunRequest
from listener_runtime.errors import WheelError
from listener_runtime.image import PACKAGES
from listener_runtime.pool import SandboxPool
from listener_runtime.sandbox_process import STANDARD_MEMORY_MB, SandboxProcess
from listener_runtime.settings import HostSettings, PoolSettings
from listener_runtime.wheel import Wheel

_SITE: Final = "/lib/python3.14/site-packages"
_TESTS: Final = {"test", "tests", "testing", "conftest", "__main__"}
_COMPILE_LIMIT_S: Final = 60.0
_COMPILE: Final = """\
import base64, importlib.util
from importlib._bootstrap_external import _code_to_hash_pyc

def main(event, g):
    source = base64.b64decode(event["source"])
    code = compile(source, event["path"], "exec", dont_inherit=True)
    made = _code_to_hash_pyc(code, importlib.util.source_hash(source), False)
    return base64.b64encode(made).decode()
"""


@dataclass(frozen=True, slots=True)
class PackageImage:
    """A folder with an image, not yet in place; `not_imported` names modules and why not."""

    folder: Path
    not_imported: Mapping[str, str]


async def build_package_image(
    pool: PoolSettings, images: Path, wheels: Sequence[Wheel], asked: Collection[str]
) -> PackageImage:
    """Build an image below `images`; all modules of the packages `asked` for are imported.

    Raises WheelError where wheels contradict each other, ImageError where no process starts.
    """
    files = _merged(wheels)
    files |= await _compiled(pool, files)
    modules = _modules_to_import(wheels, asked)
    images.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=images, prefix=".image-"))
    try:
        shutil.copytree(pool.image, folder, dirs_exist_ok=True)
        (folder / PACKAGES).write_bytes(encode_packages(files, modules))
        process = await SandboxProcess.start(pool.deno, folder, STANDARD_MEMORY_MB)
        failed = process.not_imported
        await process.kill()
        # What failed would fail at each start.
        modules = [name for name in modules if name not in failed]
        (folder / PACKAGES).write_bytes(encode_packages(files, modules))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    native = _native_modules(wheels)
    # A module within a package is often for an extra that was not asked for.
    told = {name: why for name, why in failed.items() if "." not in name or name in native}
    return PackageImage(folder, told)


def put_in_place(image: PackageImage, images: Path, tenant: str) -> None:
    """Let a tenant's new processes start from an image, from one moment to the next."""
    link = images / tenant
    before = link.resolve() if link.is_symlink() else None
    new = images / f".{tenant}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(image.folder.name)
    new.replace(link)
    if before is not None:
        # A process that was just being started from it is started again from the new one.
        shutil.rmtree(before, ignore_errors=True)


def remove_image(images: Path, tenant: str) -> None:
    """Let a tenant's new processes start from the standard image again."""
    link = images / tenant
    if link.is_symlink():
        folder = link.resolve()
        link.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def encode_packages(files: Mapping[str, bytes], modules: Sequence[str]) -> bytes:
    """Files and the modules to import, as guest/packages.mjs reads them."""
    ordered = sorted(files)
    head = encode({"files": [[path, len(files[path])] for path in ordered], "modules": [*modules]})
    return b"".join((head, b"\n", *(files[path] for path in ordered)))


def _merged(wheels: Sequence[Wheel]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for wheel in wheels:
        for path, content in wheel.files.items():
            if files.setdefault(path, content) != content:
                raise WheelError(
                    f"{wheel.file}: found the file {path!r}, which another package holds too; "
                    "expected packages that do not overwrite one another"
                )
    return files


def _modules_to_import(wheels: Sequence[Wheel], asked: Collection[str]) -> list[str]:
    """What was asked for, whole; of what it needs the top, and native code, which cannot wait."""
    native = _native_modules(wheels)
    return [
        name
        for wheel in wheels
        for name in wheel.modules
        if name in native
        or ((wheel.name in asked or "." not in name) and _TESTS.isdisjoint(name.split(".")))
    ]


def _native_modules(wheels: Sequence[Wheel]) -> set[str]:
    return {
        ".".join((*PurePosixPath(path).parts[:-1], PurePosixPath(path).name.split(".")[0]))
        for wheel in wheels
        for path in wheel.files
        if path.endswith(".so")
    }


async def _compiled(settings: PoolSettings, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The sources' bytecode; a source that cannot be compiled is left as it is."""
    pool = SandboxPool(
        PoolSettings(settings.image, settings.deno, processes=1, processes_max=2), HostSettings()
    )

    async def compile_one(path: str) -> tuple[str, bytes] | None:
        event = {"path": f"{_SITE}/{path}", "source": base64.b64encode(files[path]).decode()}
        outcome = await pool.run(
            RunRequest(
                *("packages", "packages", _COMPILE, encode(event), "packages", Chain("packages")),
                timeout_s=_COMPILE_LIMIT_S,
            )
        )
        if outcome.status != "ok" or not isinstance(outcome.result, str):
            return None
        folder, _, name = path.rpartition("/")
        target = f"__pycache__/{name.removesuffix('.py')}.cpython-314.pyc"
        try:
            content = base64.b64decode(outcome.result, validate=True)
        except binascii.Error:
            return None
        return (f"{folder}/{target}" if folder else target), content

    await pool.start()
    try:
        sources = [path for path in files if path.endswith(".py")]
        done = await asyncio.gather(*map(compile_one, sources))
    finally:
        await pool.close()
    return dict(one for one in done if one is not None)
