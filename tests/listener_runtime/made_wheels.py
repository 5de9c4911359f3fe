"""Wheels made in a test, good ones and bad ones."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def record_row(path: str, content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(content)}"


def wheel_bytes(
    name: str,
    version: str,
    files: Mapping[str, str | bytes],
    requires: Sequence[str] = (),
    record: str | None = None,
) -> bytes:
    """An archive of these files with a true RECORD, or the one given."""
    info = f"{name}-{version}.dist-info"
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires)]
    tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = {
        **{path: one.encode() if isinstance(one, str) else one for path, one in files.items()},
        f"{info}/METADATA": ("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n").encode(),
        f"{info}/WHEEL": tag.encode(),
    }
    rows = "\n".join(record_row(path, content) for path, content in contents.items())
    contents[f"{info}/RECORD"] = (record if record is not None else rows).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
    return out.getvalue()


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes],
    requires: Sequence[str] = (),
) -> Path:
    """A good wheel of pure Python in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    file.write_bytes(wheel_bytes(name, version, files, requires))
    return file
