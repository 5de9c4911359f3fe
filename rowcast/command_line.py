"""The command `rowcast`: its subcommands, and how what the user can mend is told.

A subcommand's module is imported when it is asked for: each brings whole rooms along, and a command
is over sooner than all of them are imported.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Final, NoReturn, cast

import click

from cdc.errors import FencedError
from rowcast.errors import MENDABLE
from rowcast.supervised_process import NOT_AGAIN_EXIT

_EXIT_MENDABLE = 2


_NOUNS: Final = {
    **dict.fromkeys(("up", "status", "doctor", "token"), "running"),
    **dict.fromkeys(("sources", "snapshot", "verify", "audit", "reads"), "sources"),
    **dict.fromkeys(("apply", "get", "delete", "test"), "definitions"),
    **dict.fromkeys(("emit", "tail", "schedules", "subscriptions"), "events"),
    **dict.fromkeys(("runs", "dead", "replay"), "runs"),
    "packages": "packages",
    "run": "services",
}
"""The module of rowcast.commands that has a subcommand, by the subcommand's name."""


class _Commands(click.Group):
    """Turns what the user can mend into one message and an exit status, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        noun = _NOUNS.get(cmd_name)
        if noun is None:
            return None
        commands: tuple[click.Command, ...] = import_module(f"rowcast.commands.{noun}").COMMANDS
        return next(one for one in commands if one.name == cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MENDABLE as error:
            _end(error)
        except KeyboardInterrupt:
            sys.exit(130)
        except BaseExceptionGroup as group:
            mendable = group.subgroup(MENDABLE)
            if mendable is None:
                raise
            _end(_first_leaf(mendable))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rowcast")
def main() -> None:
    """Turn what happens in databases and APIs into events, and events into action."""
    # What matters of the Kafka client's troubles reaches us as exceptions, said with their mend.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _end(error: BaseException) -> NoReturn:
    click.echo(f"rowcast: {error}", err=True)
    # The newer capture would be fenced in turn by this one, started again.
    sys.exit(NOT_AGAIN_EXIT if isinstance(error, FencedError) else _EXIT_MENDABLE)


def _first_leaf(error: BaseException) -> BaseException:
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast("BaseExceptionGroup[BaseException]", leaf).exceptions[0]
    return leaf
