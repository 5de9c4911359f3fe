"""Makes the sandbox image: the folder that every sandbox process is started from.

    python -m listener_runtime.image PYODIDE_FOLDER IMAGE_FOLDER

The image is Pyodide's four files, the programs in guest/ and the snapshot of an interpreter that
has already imported what listeners use. It must be made by the same Deno and Pyodide that run it;
its fingerprint says of which, and of which guest/. It is put in place whole or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from listener_runtime.errors import ImageError
from listener_runtime.sandbox_command import ENVIRONMENT, sandbox_command

SNAPSHOT: Final = "snapshot.bin"
PROGRAM: Final = "main.mjs"
PACKAGES: Final = "packages.bin"
"""Third-party packages, see guest/packages.mjs; empty in the standard image."""

FINGERPRINT: Final = "fingerprint.txt"
_PYODIDE_FILES: Final = (
    "pyodide.mjs",
    "pyodide.asm.mjs",
    "pyodide.asm.wasm",
    "python_stdlib.zip",
)
_MODULE: Final = "pyodide.asm.mjs"
_SCRIPT: Final = "pyodide.asm.js"
_OPENING: Final = "async function _createPyodideModule("
_EXPORT: Final = "export default _createPyodideModule;"
_GUEST: Final = Path(__file__).with_name("guest")
_BUILD_MEMORY_MB: Final = 512
_BUILD_LIMIT_S: Final = 120.0
_SMALLEST_SNAPSHOT: Final = 10 * 1024 * 1024


def make_image(deno: Path, pyodide: Path, image: Path) -> None:
    """Build an image (about four seconds); raises ImageError with what is missing or failed."""
    missing = [name for name in _PYODIDE_FILES if not (pyodide / name).exists()]
    if missing:
        raise ImageError(
            f"found no {', '.join(missing)} in {pyodide}, expected Pyodide there; `make install` "
            "puts it in place"
        )
    image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=image.parent, prefix=".image-") as temporary:
        new = Path(temporary) / "image"
        shutil.copytree(_GUEST, new, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _PYODIDE_FILES:
            if name != _MODULE:
                shutil.copyfile(pyodide / name, new / name)
        (new / _SCRIPT).write_text(_script((pyodide / _MODULE).read_text()))
        fingerprint = _fingerprint(deno, new)
        (new / SNAPSHOT).write_bytes(_snapshot(deno, new))
        (new / PACKAGES).touch()
        (new / FINGERPRINT).write_text(fingerprint)
        shutil.rmtree(image, ignore_errors=True)
        new.rename(image)


def read_fingerprint(image: Path) -> str | None:
    """What an image was made of, in a word; None for an image that does not say."""
    try:
        return (image / FINGERPRINT).read_text()
    except OSError:
        return None


def _script(module: str) -> str:
    """An Emscripten module as a script that evaluates to what the module exports."""
    body = module.strip()
    if not body.startswith(_OPENING) or not body.endswith(_EXPORT):
        raise ImageError(
            f"found a {_MODULE} that is not one function from `{_OPENING}` to `{_EXPORT}`, "
            "expected that of the Pyodide in infra/embedded/pyodide/package.json"
        )
    address = f'"file:///image/{_SCRIPT}"'
    return f"({body.removesuffix(_EXPORT)})".replace("import.meta.url", address)


def _fingerprint(deno: Path, folder: Path) -> str:
    version = subprocess.run((str(deno), "--version"), capture_output=True, check=False, env={})
    made_of = hashlib.sha256(version.stdout)
    for file in sorted(folder.iterdir()):
        made_of.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return made_of.hexdigest()


def _snapshot(deno: Path, folder: Path) -> bytes:
    command = sandbox_command(deno, folder / "build.mjs", _BUILD_MEMORY_MB)
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        cwd="/",
        env=dict(ENVIRONMENT),
        stdin=subprocess.DEVNULL,
        timeout=_BUILD_LIMIT_S,
    )
    if done.returncode != 0 or len(done.stdout) < _SMALLEST_SNAPSHOT:
        said = done.stderr.decode("utf-8", "replace").strip()[-2_000:]
        raise ImageError(
            f"the snapshot was not made: exit status {done.returncode}, {len(done.stdout)} bytes, "
            f"{said}"
        )
    return done.stdout


def main(arguments: list[str]) -> int:
    """Build the image that the arguments name, with the Deno beside this Python."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m listener_runtime.image PYODIDE_FOLDER IMAGE_FOLDER\n")
        return 64
    pyodide, image = (Path(argument).absolute() for argument in arguments)
    try:
        make_image(Path(sys.executable).with_name("deno"), pyodide, image)
    except ImageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
