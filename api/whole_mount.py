"""A mount that takes every path below it, one with a line break too.

Starlette's own does not match those, so that such a call would be answered by nobody of ours, in
plain text and without its event.
"""

from __future__ import annotations

import re

from starlette.routing import Mount
from starlette.types import ASGIApp


class WholeMount(Mount):
    """An application at a path and all below."""

    def __init__(self, path: str, app: ASGIApp) -> None:
        super().__init__(path, app=app)
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)
