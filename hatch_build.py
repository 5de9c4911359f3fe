"""Compiles what capture does for each row; without a C compiler nothing is missing but speed.

A hook of hatchling (https://hatch.pypa.io/latest/plugins/build-hook/custom/). The module stands
beside its source, so that an editable installation finds it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

_MODULES = ("cdc.record_batch", "cdc.row_path")


class CompiledModules(BuildHookInterface[Any]):
    """Builds the modules in place and adds them to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        del version
        root = Path(self.root)
        build = root / "build" / "compiled"
        try:
            built = _compile(root, build)
        except (BaseError, OSError) as error:
            self.app.display_warning(f"capture runs uncompiled and slower: {error}")
            return
        build_data["infer_tag"] = True
        build_data["pure_python"] = False
        build_data["artifacts"].extend(path.relative_to(root).as_posix() for path in built)


def _compile(root: Path, build: Path) -> list[Path]:
    extensions = cythonize(
        [
            Extension(name, [(Path(*name.split(".")).with_suffix(".pyx")).as_posix()])
            for name in _MODULES
        ],
        build_dir=str(build.relative_to(root)),
        quiet=True,
    )
    command = build_ext(Distribution({"ext_modules": extensions}))
    command.inplace = False
    command.build_lib, command.build_temp = str(root), str(build / "objects")
    command.ensure_finalized()
    command.run()
    return [Path(path) for path in command.get_outputs()]


if __name__ == "__main__":
    sys.exit("run by `python -m pip install`")
