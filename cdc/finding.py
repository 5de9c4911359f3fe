"""What an examination of a source found: one line of `rowcast doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cdc.errors import CaptureConfigError

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` is empty where there is nothing to mend."""

    severity: Severity
    subject: str
    found: str
    expected: str
    mend: str

    @classmethod
    def of_error(cls, subject: str, error: CaptureConfigError) -> Finding:
        """The finding that an error of the configuration is."""
        return cls("error", subject, error.found, error.expected, error.mend)
