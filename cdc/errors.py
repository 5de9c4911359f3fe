"""The exceptions of capture; their tree is drawn in the package's docstring."""


class CaptureError(Exception):
    """Capture cannot go on in this process."""


class CaptureConfigError(CaptureError):
    """Something a user set up stands in the way: what was found, what was expected, the mend."""

    def __init__(self, *, found: str, expected: str, mend: str) -> None:
        super().__init__(f"found {found}; expected {expected}; to mend it: {mend}")
        self.found = found
        self.expected = expected
        self.mend = mend


class CaptureGapError(CaptureError):
    """The source no longer holds the changes that follow the progress record."""


class SourceLostError(CaptureError):
    """The connection to the source broke."""


class SourceFormatError(CaptureError):
    """The source sent bytes that its protocol does not allow."""


class SpillError(CaptureError):
    """Transactions in progress do not fit on the disk; the server sends them again."""


class ProgressFormatError(SourceFormatError):
    """A progress record that this version cannot read."""


class PublishError(CaptureError):
    """Kafka did not take the records; nothing of the group is visible to read_committed."""


class FencedError(PublishError):
    """A newer capture of the same source has taken over."""


class RecordTooLargeError(PublishError):
    """A record is larger than Kafka is set to take."""
