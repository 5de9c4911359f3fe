"""What every command shares: which installation is meant, and how asynchronous work is run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import click

from rowcast.installation import DEFAULT_FOLDER

_Result = TypeVar("_Result")

folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder of the installation.",
)


def run_async(work: Coroutine[object, object, _Result]) -> _Result:
    """What the work gives."""
    return asyncio.run(work)
