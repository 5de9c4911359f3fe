"""What every command shares: which installation is meant, and how asynchronous work is run.

A command that acts on an installation asks its system API: the one of `--dir`, with a token made
from the secret in that folder, or the one of `--url`, with a token that is given. A command that
is there to make something start, or to work while nothing runs, takes `--dir` alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
import msgspec
from click.core import ParameterSource

from api.system_operation import SystemOperation
from rowcast.errors import ConfigurationError
from rowcast.installation import DEFAULT_FOLDER
from rowcast.system.client import SystemClient, client_of_folder, client_of_url

_Result = TypeVar("_Result")
_Arguments = TypeVar("_Arguments", bound=msgspec.Struct)
_Parameters = ParamSpec("_Parameters")

folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Folder of the installation.",
)


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    # A subcommand's default does not take away what its group was given.
    if value is not None:
        context.meta[f"rowcast.{parameter.name}"] = value


_url_option = click.option(
    "--url",
    envvar="ROWCAST_URL",
    expose_value=False,
    callback=_remember,
    help="Address of an installation elsewhere, instead of --dir.",
)
_token_option = click.option(
    "--token",
    "service_token",
    envvar="ROWCAST_TOKEN",
    expose_value=False,
    callback=_remember,
    help="Token of service_role for --url.",
)


def reach_options(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Options of a command that acts on an installation: --dir, or --url and --token.

    The command itself is given the folder; `client` and `ask` read the others.
    """
    return folder_option(_url_option(_token_option(command)))


def client(folder: Path) -> SystemClient:
    """The installation that is meant; raises ConfigurationError where that is not clear."""
    url = address_elsewhere()
    if url is None:
        return client_of_folder(_folder_given() or folder)
    token = _given(click.get_current_context(), "service_token")
    if token is None:
        raise ConfigurationError(
            f"found no token for {url}, expected --token or ROWCAST_TOKEN; `rowcast token --role "
            "service_role` makes one where that installation is"
        )
    return client_of_url(url, token)


def address_elsewhere() -> str | None:
    """The address of --url or ROWCAST_URL; None where the installation in a folder is meant.

    A folder that was named on the command line goes before an address from the environment.
    """
    by_folder = _folder_given() is not None
    if by_folder and any(_is_typed(context, "url") for context in _contexts()):
        raise ConfigurationError("found --dir and --url, expected one of them")
    return None if by_folder else _given(click.get_current_context(), "url")


def ask(
    folder: Path, operation: SystemOperation[_Arguments, _Result], arguments: _Arguments
) -> _Result:
    """Have an operation carried out by the installation that is meant."""
    return run_async(client(folder).ask(operation, arguments))


def run_async(work: Coroutine[object, object, _Result]) -> _Result:
    """What the work gives."""
    return asyncio.run(work)


def print_lines(text: str) -> None:
    """Print what was found, a line each; nothing at all, not an empty line, where it is nothing."""
    if text:
        click.echo(text)


def _folder_given() -> Path | None:
    """The folder that was typed, of the command or of its group."""
    for context in _contexts():
        folder: object = context.params.get("folder")
        if isinstance(folder, Path) and _is_typed(context, "folder"):
            return folder
    return None


def _contexts() -> Iterator[click.Context]:
    context: click.Context | None = click.get_current_context()
    while context is not None:
        yield context
        context = context.parent


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _given(context: click.Context, name: str) -> str | None:
    value: object = context.meta.get(f"rowcast.{name}")
    return value if isinstance(value, str) and value else None
