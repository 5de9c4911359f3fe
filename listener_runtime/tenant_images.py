"""Which image a tenant's processes are started from: its own where it has packages.

IMAGES/<tenant> is a link to the folder that holds the image, so that a new one takes the place of
the old in one step; the folder's path is what tells one build from the next.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_TENANT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def is_tenant_name(tenant: str) -> bool:
    """Whether a tenant of this name can have an image: names become paths."""
    return _TENANT.fullmatch(tenant) is not None


class TenantImages:
    """The images there are right now; `standard` is for who has none."""

    def __init__(self, standard: Path, images: Path | None) -> None:
        self._standard = standard
        self._images = images

    def image_of(self, tenant: str | None) -> Path:
        """The folder of a tenant's image; asked before each run, so it must stay cheap."""
        if self._images is None or tenant is None or not is_tenant_name(tenant):
            return self._standard
        try:
            # Path would cost more than the call itself does.
            folder = os.readlink(f"{self._images}/{tenant}")  # noqa: PTH115
        except OSError:
            return self._standard
        return self._images / folder

    def is_own(self, image: Path) -> bool:
        """Whether an image is a tenant's, not everybody's."""
        return image != self._standard
