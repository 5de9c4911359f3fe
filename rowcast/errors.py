"""The room's exceptions; their tree is drawn in the package's docstring."""


class RowcastError(Exception):
    """Something that the user can mend; its message says how."""


class ConfigurationError(RowcastError):
    """rowcast.toml or an environment variable is not as expected."""


class NotRunningError(RowcastError):
    """A command needs an installation that runs."""


class StartError(RowcastError):
    """The installation, or a service of it, cannot start."""


class PackageError(RowcastError):
    """A third-party package that cannot be added, or is not what was added."""
