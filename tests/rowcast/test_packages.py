"""`rowcast packages`, as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from infra.artifacts import PROJECT
from listener_runtime.image import FINGERPRINT
from rowcast.installation import open_installation
from rowcast.packages import image_trouble
from tests.listener_runtime.made_wheels import wheel_bytes, write_wheel

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "installation"
    folder.mkdir()
    (folder / "rowcast.toml").write_text("port_base = 9000\n")
    return folder


def packages(
    folder: Path, command: str, *arguments: str | Path, offline: bool = True
) -> tuple[int, str, str]:
    return rowcast("packages", command, "--dir", folder, *arguments, offline=offline)


def rowcast(*arguments: str | Path, offline: bool = True) -> tuple[int, str, str]:
    """Exit status, what was printed, what was complained."""
    done = subprocess.run(
        (sys.executable, "-m", "rowcast", *map(str, arguments)),
        capture_output=True,
        check=False,
        cwd=PROJECT,
        env={**os.environ, **({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""} if offline else {})},
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def left(folder: Path) -> list[str]:
    """What packages there are on disk."""
    return sorted(
        str(path.relative_to(folder))
        for kind in ("packages", "images")
        for path in (folder / kind).rglob("*")
        if path.is_file() or path.is_symlink()
    )


def test_packages_are_added_listed_rebuilt_and_removed(folder: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    file = write_wheel(
        tmp_path,
        "toolbox",
        "1.0",
        {"toolbox.py": "import gears"},
        ['gears>=2; sys_platform == "emscripten"', 'never; python_version < "3.14"', "gears<4"],
    )
    for version in ("1.0", "3.0", "4.0"):
        write_wheel(links, "gears", version, {"gears.py": f"version = {version}"})

    status, said, complained = packages(folder, "add", file, "--find-links", links)
    assert (status, said, complained) == (0, "gears 3.0\ntoolbox 1.0\n", "")
    lock_text = (folder / "packages" / "default.lock").read_text()
    lock = tomllib.loads(lock_text)
    assert lock["asked"] == {"toolbox": "toolbox==1.0"}
    names = [(one["name"], one["version"]) for one in lock["packages"]]
    assert names == [("gears", "3.0"), ("toolbox", "1.0")]
    assert "/" not in lock_text
    _, listed, _ = packages(folder, "list")
    assert "gears 3.0  (required by another)" in listed
    assert lock["packages"][1]["sha256"] in listed

    installation = open_installation(folder)
    assert image_trouble(installation, "default") is None
    (folder / "images" / "default" / FINGERPRINT).write_text("another")
    assert "another version" in str(image_trouble(installation, "default"))
    assert "rowcast packages rebuild --tenant default" in rowcast("doctor", "--dir", folder)[1]
    status, said, _ = packages(folder, "rebuild")
    assert (status, said) == (0, "the image of tenant default was built, with 2 packages\n")
    assert image_trouble(installation, "default") is None

    wheel = folder / "packages" / "default" / "gears-3.0-py3-none-any.whl"
    locked = wheel.read_bytes()
    wheel.write_bytes(wheel_bytes("gears", "3.0", {"gears.py": "import os"}))
    before = left(folder)
    status, _, complained = packages(folder, "rebuild")
    assert status == 2
    assert "expected the locked" in complained
    assert left(folder) == before
    wheel.write_bytes(locked)

    assert packages(folder, "remove", "toolbox")[:2] == (0, "toolbox removed\n")
    assert left(folder) == []
    assert "no packages" in packages(folder, "list")[1]


def sdist(folder: Path, name: str, witness: Path) -> Path:
    """A source archive that would leave a trace, were it built."""
    setup = folder / "setup.py"
    setup.write_text(f"open({str(witness)!r}, 'w').write('ran')\nimport setuptools\n")
    file = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        archive.add(setup, f"{name}-1.0/setup.py")
    return file


def test_what_is_no_wheel_is_refused_and_nothing_of_it_is_run(folder: Path, tmp_path: Path) -> None:
    witness, links = tmp_path / "witness", tmp_path / "links"
    links.mkdir()
    source = sdist(links, "sourced", witness)
    text = tmp_path / "text-1.0-py3-none-any.whl"
    text.write_text("not a wheel")
    native = links / "native-1.0-cp314-cp314-manylinux_2_28_x86_64.whl"
    native.write_bytes(wheel_bytes("native", "1.0", {"native.py": ""}))
    follows = write_wheel(tmp_path, "follows", "1.0", {}, [f"sourced @ {source.as_uri()}"])
    write_wheel(links, "lures", "1.0", {}, [f"sourced @ {source.as_uri()}"])
    out = write_wheel(tmp_path, "out", "1.0", {"../out.py": ""})
    for wanted, said in (
        (source, "a .whl's path"),
        ("sourced", "found no wheel of sourced that runs in the sandbox"),
        ("native", "expected one of pure Python"),
        (source.as_uri(), "expected NAME"),
        (f"sourced @ {source.as_uri()}", "found the address"),
        ("--editable", "No such option"),
        ("-rfile.txt", "No such option"),
        (text, "is no wheel"),
        (native, "for Pyodide"),
        (follows, "is not followed"),
        ("lures", "is not followed"),
        (out, "inside the package"),
        (tmp_path / "none-1.0-py3-none-any.whl", "was not found"),
    ):
        status, _, complained = packages(folder, "add", wanted, "--find-links", links)
        assert status == 2, wanted
        assert said in complained, wanted
    assert not witness.exists()
    assert left(folder) == []


@pytest.mark.parametrize("tenant", ["../x", "a/b", "", "x.lock", ".x"])
def test_a_tenant_whose_name_is_no_folders_is_refused(folder: Path, tenant: str) -> None:
    status, _, complained = packages(folder, "add", "--tenant", tenant, "six")
    assert status == 2
    assert "found the tenant" in complained


def test_a_package_of_the_registry_comes_with_what_it_requires(folder: Path) -> None:
    status, said, complained = packages(folder, "add", "python-dateutil<3", offline=False)
    if status != 0 and "Could not find a version" in complained and "none" in complained:
        pytest.skip(f"pip reached no registry with python-dateutil: {complained}")
    assert status == 0, complained
    names = [line.split()[0] for line in said.splitlines()]
    assert names == ["python-dateutil", "six"]
