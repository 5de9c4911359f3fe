from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.router.router_bench import Bench


@pytest.fixture
async def bench(kafka_bootstrap: str) -> AsyncGenerator[Bench]:
    made = Bench(kafka_bootstrap)
    await made.make_topics()
    await made.producer.start()
    yield made
    await made.producer.stop()
