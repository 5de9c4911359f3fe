"""The room's exceptions; their tree is drawn in the package's docstring."""

from __future__ import annotations

from typing import Final

from cdc.errors import CaptureError
from events.errors import EventsError
from infra.errors import InfraError
from listener_runtime.errors import ImageError, WheelError
from router.errors import RouterError


class RowcastError(Exception):
    """Something that the user can mend; its message says how."""


class ConfigurationError(RowcastError):
    """rowcast.toml or an environment variable is not as expected."""


class NotFoundError(ConfigurationError):
    """A name that stands for nothing there is."""


class RefusedError(RowcastError):
    """The system API refuses or fails; its message is the API's."""


class NotRunningError(RowcastError):
    """A command needs an installation that runs."""


class StartError(RowcastError):
    """The installation, or a service of it, cannot start."""


class PackageError(RowcastError):
    """A third-party package that cannot be added, or is not what was added."""


MENDABLE: Final = (
    *(RowcastError, InfraError, CaptureError, RouterError, EventsError),
    *(ImageError, WheelError),
)
"""What a user can mend, of all rooms: told in one message, without a traceback."""
