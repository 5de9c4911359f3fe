"""A wheel is a stranger's archive: nothing of it is believed."""

from __future__ import annotations

import io
import stat
import zipfile

import pytest

from listener_runtime import wheel as wheel_module
from listener_runtime.errors import WheelError
from listener_runtime.wheel import read_wheel
from tests.listener_runtime.made_wheels import wheel_bytes

FILE = "good-1.0-py3-none-any.whl"


def test_a_wheel_gives_its_files_modules_and_requirements() -> None:
    files = {
        "good/__init__.py": "",
        "good/part.py": "x = 1",
        "good/data.txt": "text",
        "good/native.cpython-314-wasm32-emscripten.so": b"\0asm",
        "good-1.0.data/purelib/good/more.py": "",
        "good-1.0.data/scripts/run": "#!python",
    }
    wheel = read_wheel(FILE, wheel_bytes("good", "1.0", files, ["six>=1.5"]))
    assert (wheel.name, wheel.version, wheel.requires) == ("good", "1.0", ("six>=1.5",))
    assert wheel.modules == ("good", "good.more", "good.native", "good.part")
    assert wheel.files["good/data.txt"] == b"text"
    assert not [path for path in wheel.files if "scripts" in path]


@pytest.mark.parametrize(
    "file",
    [
        "good-1.0-cp314-cp314-pyemscripten_2026_0_wasm32.whl",
        "good-1.0-cp310-abi3-pyemscripten_2026_0_wasm32.whl",
        "good-1.0-py2.py3-none-any.whl",
    ],
)
def test_wheels_of_pure_python_and_for_pyodide_fit(file: str) -> None:
    assert read_wheel(file, wheel_bytes("good", "1.0", {"good.py": ""})).name == "good"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("good-1.0-cp314-cp314-manylinux_2_28_x86_64.whl", "for Pyodide"),
        ("good-1.0-cp313-cp313-pyemscripten_2025_0_wasm32.whl", "for Pyodide"),
        ("good-1.0-py2-none-any.whl", "for Pyodide"),
        ("good-1.0.tar.gz", "expected a wheel's name"),
        ("../good-1.0-py3-none-any.whl", "expected"),
        ("other-1.0-py3-none-any.whl", "one .dist-info folder"),
    ],
)
def test_a_file_that_cannot_be_one_for_the_guest_is_refused_by_its_name(
    file: str, said: str
) -> None:
    with pytest.raises(WheelError, match=said):
        read_wheel(file, wheel_bytes("good", "1.0", {"good.py": ""}))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../out.py", "good/../../out.py", "good//x.py", "C:/x.py", "a\\b.py", "./x.py"],
)
def test_names_that_lead_out_of_the_folder_are_refused(path: str) -> None:
    with pytest.raises(WheelError, match="expected one inside the package"):
        read_wheel(FILE, wheel_bytes("good", "1.0", {path: "x = 1"}))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(WheelError, match="is no wheel"):
        read_wheel(FILE, content)


def test_every_cut_of_a_wheel_is_refused_with_a_wheel_error() -> None:
    whole = wheel_bytes("good", "1.0", {"good.py": "x = 1\n" * 50})
    for length in range(0, len(whole), 7):
        with pytest.raises(WheelError):
            read_wheel(FILE, whole[:length])


@pytest.mark.parametrize("at", [40, 60])
def test_a_file_that_is_not_what_record_says_is_refused(at: int) -> None:
    record = "good.py,sha256=AAAA,1\n" + "x" * at
    with pytest.raises(WheelError, match="RECORD"):
        read_wheel(FILE, wheel_bytes("good", "1.0", {"good.py": "x = 1"}, record=record))


def test_a_file_without_a_hash_or_with_a_weak_one_is_refused() -> None:
    for row in ("good.py,,", "good.py,md5=AAAA,1", ""):
        with pytest.raises(WheelError, match="RECORD has no hash"):
            read_wheel(FILE, wheel_bytes("good", "1.0", {"good.py": "x = 1"}, record=row))


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wheel_module, "_MAX_UNPACKED_BYTES", 1 << 20)
    bomb = wheel_bytes("good", "1.0", {"good.py": bytes(4 << 20)})
    assert len(bomb) < 20_000
    with pytest.raises(WheelError, match="1 MiB unpacked"):
        read_wheel(FILE, bomb)


def test_more_files_than_are_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_module, "_MAX_FILES", 10)
    many = {f"good/m{number}.py": "" for number in range(20)}
    with pytest.raises(WheelError, match="10 at most"):
        read_wheel(FILE, wheel_bytes("good", "1.0", many))


def test_links_are_refused() -> None:
    out = io.BytesIO(wheel_bytes("good", "1.0", {"good.py": ""}))
    with zipfile.ZipFile(out, "a") as archive:
        link = zipfile.ZipInfo("good/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(WheelError, match="a link"):
        read_wheel(FILE, out.getvalue())


def test_a_name_that_stands_twice_is_refused() -> None:
    out = io.BytesIO(wheel_bytes("good", "1.0", {"good.py": ""}))
    with (
        zipfile.ZipFile(out, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("good.py", "import os")
    with pytest.raises(WheelError, match="twice"):
        read_wheel(FILE, out.getvalue())
