"""Packages of a tenant: there before the first run, and as no run has touched them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from events.run import RunOutcome
from listener_runtime.errors import ImageError, WheelError
from listener_runtime.package_image import PackageImage, build_package_image, put_in_place
from listener_runtime.pool import SandboxPool
from listener_runtime.sandbox_process import PROCESS_MB
from listener_runtime.settings import HostSettings
from listener_runtime.wheel import PLATFORM, PYTHON, read_wheel
from tests.listener_runtime.conftest import opened, pool_settings
from tests.listener_runtime.made_wheels import write_wheel
from tests.listener_runtime.sandbox_runs import request

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

SLOW = "made = sum(number * number for number in range(500_000))\n"
TOOLBOX = """
import os
import gears
print("printed at import")
open("/tmp/left", "w").write("left at import")
state = {"runs": 0}
WAYS_OUT = (
    "js", "pyodide_js", "_pyodide_js", "_pyodide_core", "ctypes", "_ctypes", "_testcapi",
    "_testinternalcapi", "_posixsubprocess",
)

def ways_out():
    found = []
    for name in WAYS_OUT:
        try:
            __import__(name)
        except ImportError:
            continue
        found.append(name)
    return found

at_import = ways_out()
# More than what a process takes varies by.
ballast = b"x" * (24 << 20)
"""


def build(images: Path, files: Sequence[Path], asked: Sequence[str]) -> PackageImage:
    wheels = [read_wheel(file.name, file.read_bytes()) for file in files]
    return asyncio.run(build_package_image(pool_settings(), images, wheels, asked))


def made(folder: Path, version: str = "1.0") -> list[Path]:
    parts = {"toolbox/__init__.py": TOOLBOX, "toolbox/slow.py": SLOW, "toolbox/tests.py": "1 / 0"}
    gears = {"gears/__init__.py": f"version = '{version}'", "gears/slow.py": SLOW}
    broken = {"broken.py": "raise ValueError('not here')"}
    return [
        write_wheel(folder, "toolbox", version, parts, ["gears"]),
        write_wheel(folder, "gears", version, gears),
        write_wheel(folder, "broken", version, broken),
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the tenant `maker`, who has packages."""
    folder = tmp_path_factory.mktemp("packages")
    image = build(folder / "images", made(folder), ["toolbox", "broken"])
    assert image.not_imported == {"broken": "ValueError: not here"}
    put_in_place(image, folder / "images", "maker")
    return folder / "images"


@pytest.fixture
async def makers(images: Path) -> AsyncIterator[SandboxPool]:
    """A pool of exactly one process at a time."""
    async with opened(replace(pool_settings(1, 1), images=images), HostSettings()) as pool:
        yield pool


async def run(pool: SandboxPool, code: str, tenant: str = "maker") -> RunOutcome:
    return await pool.run(request(code, tenant=tenant))


async def test_importing_a_package_costs_a_run_next_to_nothing(makers: SandboxPool) -> None:
    code = """
    import time

    def main(event, g):
        took = []
        for name in ("toolbox.slow", "gears.slow"):
            begun = time.perf_counter()
            __import__(name)
            took.append(time.perf_counter() - begun)
        beforehand, in_the_run = took
        return in_the_run / beforehand
    """
    for _ in range(3):
        outcome = await run(makers, code)
        assert isinstance(outcome.result, float), outcome.error
        assert outcome.result > 20


async def test_what_a_run_does_to_a_package_no_other_run_sees(makers: SandboxPool) -> None:
    dirty = """
    import sys, gears, toolbox

    def main(event, g):
        toolbox.state["runs"] += 1
        toolbox.leak = gears.version = "leak"
        sys.modules.pop("gears")
        sys.path.insert(0, "/tmp")
        open("/tmp/toolbox.py", "w").write("state = 'forged'")
        return toolbox.state["runs"]
    """
    look = """
    import gears, toolbox

    def main(event, g):
        return [toolbox.state, hasattr(toolbox, "leak"), gears.version, toolbox.__file__]
    """
    clean = (await run(makers, look)).result
    place = "/lib/python3.14/site-packages/toolbox/__init__.py"
    assert clean == [{"runs": 0}, False, "1.0", place]
    for _ in range(3):
        assert (await run(makers, dirty)).result == 1
        assert (await run(makers, look)).result == clean


async def test_no_package_finds_a_way_out_of_python_at_import_or_later(
    makers: SandboxPool,
) -> None:
    code = """
    import os, toolbox

    def main(event, g):
        try:
            open(toolbox.__file__, "w")
        except OSError as error:
            sealed = type(error).__name__
        return [toolbox.at_import, toolbox.ways_out(), os.listdir("/tmp"), sealed]
    """
    outcome = await run(makers, code)
    assert outcome.result == [[], [], [], "OSError"]
    assert outcome.logs == ()


async def test_what_a_package_is_called_and_where_it_is_from_can_be_asked(
    makers: SandboxPool,
) -> None:
    code = """
    from importlib import metadata

    def main(event, g):
        return [metadata.version("toolbox"), metadata.requires("toolbox")]
    """
    assert (await run(makers, code)).result == ["1.0", ["gears"]]


async def test_a_package_that_fails_at_import_fails_the_run_that_wants_it(
    makers: SandboxPool,
) -> None:
    outcome = await run(makers, "import broken\ndef main(event, g): pass")
    assert outcome.status == "failed"
    assert "ValueError: not here" in str(outcome.error)


@pytest.mark.parametrize("tenant", ["other", "default", "../maker", "maker/../maker", ".", ""])
async def test_packages_are_their_tenants_alone(makers: SandboxPool, tenant: str) -> None:
    assert (await run(makers, "import toolbox\ndef main(event, g): return 1")).result == 1
    outcome = await run(makers, "import toolbox\ndef main(event, g): pass", tenant)
    assert "No module named 'toolbox'" in str(outcome.error)


async def test_what_packages_take_counts_towards_the_memory_budget(
    makers: SandboxPool,
) -> None:
    assert (await run(makers, "def main(event, g): return 1")).result == 1
    (process,) = makers.idle
    resident_mb = psutil.Process(process.pid).memory_info().rss >> 20
    assert PROCESS_MB < process.memory_cost_mb <= resident_mb + 60


async def test_new_packages_are_taken_up_without_a_restart(tmp_path: Path) -> None:
    images = tmp_path / "images"
    code = "import gears\ndef main(event, g): return gears.version"
    settings = replace(pool_settings(1, 2), images=images)
    async with opened(settings, HostSettings()) as pool:
        assert (await run(pool, code)).status == "failed"
        for version in ("1.0", "2.0"):
            file = made(tmp_path / version, version)[1]
            image = await asyncio.to_thread(build, images, [file], ["gears"])
            put_in_place(image, images, "maker")
            assert (await run(pool, code)).result == version
            assert {one.image for one in pool.idle if one.tenant} == {image.folder}
    assert len(list(images.iterdir())) == 2


async def test_an_image_that_does_not_start_holds_up_its_tenant_alone(
    images: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in (images / "maker").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "main.mjs").write_text("throw new Error('damaged')")
    (tmp_path / "maker").symlink_to("damaged")
    async with opened(replace(pool_settings(1, 1), images=tmp_path), HostSettings()) as pool:
        theirs = asyncio.create_task(run(pool, "def main(event, g): return 1"))
        while pool.idle:
            await asyncio.sleep(0)
        ours = await run(pool, "def main(event, g): return 1", "other")
        assert ours.result == 1
        outcome = await theirs
    assert outcome.status == "failed"
    assert "rowcast packages rebuild" in str(outcome.error)


def test_a_package_that_ends_the_process_makes_no_image(tmp_path: Path) -> None:
    file = write_wheel(tmp_path, "ending", "1.0", {"ending.py": "import os\nos._exit(0)"})
    with pytest.raises(ImageError, match="did not start"):
        build(tmp_path / "images", [file], ["ending"])
    assert list((tmp_path / "images").iterdir()) == []


def test_packages_that_overwrite_one_another_make_no_image(tmp_path: Path) -> None:
    files = [write_wheel(tmp_path, name, "1.0", {"same.py": f"is_{name} = 1"}) for name in "ab"]
    with pytest.raises(WheelError, match=r"same\.py"):
        build(tmp_path / "images", files, ["a", "b"])


@pytest.fixture(scope="module")
def native_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """msgpack for Pyodide, from the registry that pip is set up with."""
    folder = tmp_path_factory.mktemp("native")
    done = subprocess.run(
        (
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "msgpack"),
            *("--only-binary", ":all:", "--platform", PLATFORM, "--python-version", PYTHON),
            *("--implementation", "cp", "--abi", "cp314", "--dest", str(folder)),
            *("--retries", "1", "--disable-pip-version-check"),
        ),
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        pytest.skip(f"pip reached no registry with a wheel of msgpack: {done.stderr[-300:]}")
    (file,) = folder.iterdir()
    return file


async def test_native_code_is_loaded_before_the_runs_and_never_in_one(
    native_wheel: Path, tmp_path: Path
) -> None:
    image = await asyncio.to_thread(build, tmp_path, [native_wheel], ["msgpack"])
    assert image.not_imported == {}
    put_in_place(image, tmp_path, "maker")
    use = """
    import msgpack

    def main(event, g):
        kind = msgpack.Packer.__module__
        return [kind, msgpack.unpackb(msgpack.packb({"a": [1, 2.5, None]}))]
    """
    smuggle = """
    import glob, importlib.machinery, importlib.util, msgpack, shutil

    def main(event, g):
        (library,) = glob.glob(msgpack.__path__[0] + "/_cmsgpack*.so")
        shutil.copy(library, "/tmp/_cmsgpack.so")
        loader = importlib.machinery.ExtensionFileLoader("_cmsgpack", "/tmp/_cmsgpack.so")
        spec = importlib.util.spec_from_loader("_cmsgpack", loader)
        return str(importlib.util.module_from_spec(spec))
    """
    async with opened(replace(pool_settings(1, 1), images=tmp_path), HostSettings()) as pool:
        for _ in range(3):
            outcome = await run(pool, use)
            assert outcome.result == ["msgpack._cmsgpack", {"a": [1, 2.5, None]}], outcome.error
            smuggled = await run(pool, smuggle)
            assert smuggled.status == "failed"
            assert "native code" in str(smuggled.error)
