from __future__ import annotations

import pkgutil
from importlib import import_module

import click

from rowcast import commands
from rowcast.command_line import main


def test_every_command_of_every_module_is_a_subcommand() -> None:
    written: dict[str, click.Command] = {}
    for module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
        found: tuple[click.Command, ...] = getattr(import_module(module.name), "COMMANDS", ())
        written |= {one.name or "": one for one in found}
    context = click.Context(main)
    assert main.list_commands(context) == sorted(written)
    assert {name: main.get_command(context, name) for name in written} == written
    assert main.get_command(context, "nosuch") is None
