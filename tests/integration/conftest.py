from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.live_installation import LiveInstallation
from tests.port_base import free_port_base


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstallation]:
    """One running installation with the example shop, shared by the tests that leave it so."""
    installation = LiveInstallation(tmp_path_factory.mktemp("live") / "shop", free_port_base())
    installation.start()
    yield installation
    installation.stop()
