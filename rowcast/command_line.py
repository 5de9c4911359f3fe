"""The command `rowcast`: its subcommands, and how what the user can mend is told."""

from __future__ import annotations

import logging
import sys
from typing import NoReturn, cast

import click

from cdc.errors import FencedError
from rowcast.commands import definitions, events, packages, running, runs, sources
from rowcast.errors import MENDABLE
from rowcast.supervised_process import NOT_AGAIN_EXIT

_EXIT_MENDABLE = 2


class _Commands(click.Group):
    """Turns what the user can mend into one message and an exit status, without a traceback."""

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


for _noun in (running, sources, definitions, events, runs, packages):
    for _command in _noun.COMMANDS:
        main.add_command(_command)


def _end(error: BaseException) -> NoReturn:
    click.echo(f"rowcast: {error}", err=True)
    # The newer capture would be fenced in turn by this one, started again.
    sys.exit(NOT_AGAIN_EXIT if isinstance(error, FencedError) else _EXIT_MENDABLE)


def _first_leaf(error: BaseException) -> BaseException:
    leaf = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = cast("BaseExceptionGroup[BaseException]", leaf).exceptions[0]
    return leaf
