"""The room's exceptions; their tree is drawn in the package's docstring."""


class InfraError(RuntimeError):
    """Something Rowcast runs on is not as it must be."""


class MissingArtifactError(InfraError):
    """Something that `make install` puts in place is not there."""


class ServerStartError(InfraError):
    """A server cannot be started as asked."""
