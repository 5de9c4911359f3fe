"""Commands on third-party packages."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from rowcast import packages
from rowcast.commands.invocation import folder_option, run_async
from rowcast.installation import open_installation

tenant_option = click.option(
    "--tenant", default="default", show_default=True, help="Whose listeners may import them."
)


@click.group("packages")
def packages_group() -> None:
    """Third-party packages that listeners import."""


@packages_group.command("add")
@folder_option
@tenant_option
@click.option(
    "--find-links",
    "links",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with more wheels.",
)
@click.argument("wanted", nargs=-1, required=True, metavar="NAME[==VERSION]|FILE.whl...")
def add_packages(
    folder: Path, tenant: str, links: tuple[Path, ...], wanted: tuple[str, ...]
) -> None:
    """Add packages and what they require, and build the tenant's image."""
    installation = open_installation(folder)
    run_async(packages.add_packages(installation, tenant, wanted, links, click.echo))


@packages_group.command("list")
@folder_option
@click.option("--tenant", help="Only of this tenant.")
def list_packages(folder: Path, tenant: str | None) -> None:
    """Show which packages there are, with versions and hashes."""
    click.echo(packages.packages_text(open_installation(folder), tenant))


@packages_group.command("remove")
@folder_option
@tenant_option
@click.argument("names", nargs=-1, required=True)
def remove_packages(folder: Path, tenant: str, names: tuple[str, ...]) -> None:
    """Remove packages and what only they required."""
    run_async(packages.remove_packages(open_installation(folder), tenant, names, click.echo))


@packages_group.command("rebuild")
@folder_option
@click.option("--tenant", "tenants", multiple=True, help="Only of this tenant.")
def rebuild_packages(folder: Path, tenants: tuple[str, ...]) -> None:
    """Build tenants' images again from the locked wheels, checking their hashes."""
    run_async(packages.rebuild_images(open_installation(folder), tenants, click.echo))


COMMANDS: Final = (packages_group,)
