"""A wheel, taken apart and checked: its files in memory, by the path they are installed at.

Pure. A wheel is a stranger's archive: names must stay inside the folder, sizes are counted while
it is unpacked and every file must be the one that RECORD names. Nothing of it is run here.

Sources: the binary distribution format (PEP 427), PEP 376 for RECORD, PEP 425 for tags, PEP 783 for
wheels that hold WebAssembly.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from typing import Final

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from listener_runtime.errors import WheelError

PYTHON: Final = "3.14.2"
ABI: Final = "cp314"
PLATFORM: Final = "pyemscripten_2026_0_wasm32"

_MAX_FILES: Final = 20_000
_MAX_UNPACKED_BYTES: Final = 128 * 1024 * 1024
_MAX_PATH: Final = 400
_CHUNK_BYTES: Final = 64 * 1024
_ENCRYPTED: Final = 1
_UNSIGNED: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
_HASHES: Final = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that may be put into an image. `requires` are its Requires-Dist as they stand;
    `content` is the archive itself, `files` what it installs.
    """

    name: str
    version: str
    file: str
    sha256: str
    requires: tuple[str, ...]
    content: bytes
    files: dict[str, bytes]

    @property
    def modules(self) -> tuple[str, ...]:
        """Dotted names of all its modules, packages before what is in them."""
        found = {name for path in self.files if (name := _module_of(path)) is not None}
        return tuple(sorted(found))


def read_wheel(file: str, content: bytes) -> Wheel:
    """The wheel of a file name and its bytes; raises WheelError with what is wrong."""
    try:
        name, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename as error:
        raise WheelError(f"found the file {file!r}, expected a wheel's name: {error}") from error
    if not any(_fits(tag.interpreter, tag.abi, tag.platform) for tag in tags):
        found = ", ".join(sorted(str(tag) for tag in tags))
        raise WheelError(
            f"{file}: found a wheel for {found}, expected one of pure Python (py3-none-any) or for "
            f"Pyodide ({ABI}-{ABI}-{PLATFORM})"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            packed = _unpack(file, archive)
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError, OSError) as error:
        raise WheelError(f"{file} is no wheel: {error}") from error
    info = _info_folder(file, packed, name)
    _check_record(file, info, packed)
    metadata = BytesHeaderParser().parsebytes(packed[f"{info}/METADATA"])
    return Wheel(
        name=name,
        version=str(version),
        file=file,
        sha256=hashlib.sha256(content).hexdigest(),
        requires=tuple(str(line) for line in metadata.get_all("Requires-Dist", ())),
        content=content,
        files=_installed(packed),
    )


def _fits(interpreter: str, abi: str, platform: str) -> bool:
    if platform == "any":
        return abi == "none" and interpreter in ("py3", "py2.py3", "py314", "cp314")
    if platform != PLATFORM:
        return False
    return (interpreter == ABI and abi in (ABI, "abi3", "none")) or abi == "abi3"


def _unpack(file: str, archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > _MAX_FILES:
        raise WheelError(f"{file}: found {len(entries)} files, expected {_MAX_FILES} at most")
    left = _MAX_UNPACKED_BYTES
    packed: dict[str, bytes] = {}
    for entry in entries:
        _check_name(file, entry.filename.removesuffix("/"))
        if entry.flag_bits & _ENCRYPTED or stat.S_ISLNK(entry.external_attr >> 16):
            raise WheelError(f"{file}: found {entry.filename!r} encrypted or a link")
        if entry.is_dir():
            continue
        if entry.filename in packed:
            raise WheelError(f"{file}: found {entry.filename!r} twice")
        # The size that an archive states is its maker's word.
        parts: list[bytes] = []
        with archive.open(entry) as stream:
            while part := stream.read(_CHUNK_BYTES):
                left -= len(part)
                if left < 0:
                    mib = _MAX_UNPACKED_BYTES >> 20
                    raise WheelError(f"{file}: found more than {mib} MiB unpacked")
                parts.append(part)
        packed[entry.filename] = b"".join(parts)
    return packed


def _check_name(file: str, name: str) -> None:
    parts = name.split("/")
    if (
        len(name) > _MAX_PATH
        or any(part in ("", ".", "..") for part in parts)
        or any(character in name for character in "\\:\0\n\r")
    ):
        raise WheelError(
            f"{file}: found the file name {name[:_MAX_PATH]!r}, expected one inside the package"
        )


def _info_folder(file: str, packed: Iterable[str], name: str) -> str:
    folders = {path.split("/")[0] for path in packed if path.endswith(".dist-info/METADATA")}
    if len(folders) == 1:
        (folder,) = folders
        if canonicalize_name(folder.removesuffix(".dist-info").rpartition("-")[0]) == name:
            return folder
    raise WheelError(f"{file} is no wheel: expected {name}'s one .dist-info folder with METADATA")


def _check_record(file: str, info: str, packed: dict[str, bytes]) -> None:
    try:
        rows = list(csv.reader(io.StringIO(packed[f"{info}/RECORD"].decode())))
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise WheelError(f"{file} is no wheel: its RECORD is missing or damaged") from error
    stated = {row[0]: row[1] for row in rows if len(row) == 3}
    unsigned = {f"{info}/{name}" for name in _UNSIGNED}
    for path, content in packed.items():
        if path in unsigned:
            continue
        algorithm, _, digest = stated.get(path, "").partition("=")
        if algorithm not in _HASHES:
            raise WheelError(f"{file}: found {path!r}, for which RECORD has no hash")
        made = hashlib.new(algorithm, content).digest()
        if base64.urlsafe_b64encode(made).rstrip(b"=").decode() != digest:
            raise WheelError(f"{file}: found {path!r} changed: it is not what RECORD says")


def _installed(packed: dict[str, bytes]) -> dict[str, bytes]:
    """Files by where they are installed; scripts, headers and data have no place in a guest."""
    files: dict[str, bytes] = {}
    for path, content in packed.items():
        folder, _, rest = path.partition("/")
        if folder.endswith(".data"):
            kind, _, below = rest.partition("/")
            if kind in ("purelib", "platlib") and below:
                files[below] = content
        elif path not in files:
            files[path] = content
    return files


def _module_of(path: str) -> str | None:
    *folders, file = path.split("/")
    stem, _, kind = file.partition(".")
    # An extension module's name may hold tags: x.cpython-314-wasm32-emscripten.so.
    if kind != "py" and not kind.endswith("so"):
        return None
    parts = folders if stem == "__init__" else [*folders, stem]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None
