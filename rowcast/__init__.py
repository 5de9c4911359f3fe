"""The command line, the configuration and the start of every service.

The only room that knows the others: it reads `rowcast.toml`, makes each room's settings of it,
starts the rooms' shells as processes and keeps them running. No behaviour of capture, routing,
sandbox or push lives here.

Errors:

    RowcastError(Exception)
    ├── ConfigurationError  rowcast.toml or an environment variable is not as expected
    │   └── NotFoundError   a name that stands for nothing there is
    ├── RefusedError        the system API refuses or fails
    ├── NotRunningError     a command needs an installation that runs
    ├── StartError          the installation, or a service of it, cannot start
    └── PackageError        a third-party package that cannot be added, or is another by now
"""
