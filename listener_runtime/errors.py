"""The room's exceptions; their tree is drawn in the package's docstring."""


class SandboxError(Exception):
    """Something about the sandbox is not as it must be."""


class FrameError(SandboxError):
    """Bytes on the pipe that are no frame of the protocol."""


class ImageError(SandboxError):
    """The sandbox image is missing, damaged or cannot be built."""


class WheelError(SandboxError):
    """A file that is no wheel, or none that is let into an image."""


class HostCallError(SandboxError):
    """A host call that is refused or failed; its message is what the guest sees."""


class NotReachedError(HostCallError):
    """A server that took no connection, so that nothing was sent."""


class AnswerError(HostCallError):
    """An answer that is too large, or packed in a way that cannot be unpacked."""
