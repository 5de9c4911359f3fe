from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.push.push_bench import PushBench


@pytest.fixture
async def bench(kafka_bootstrap: str) -> AsyncGenerator[PushBench]:
    """Topics of a test's own, with the shop's orders among them."""
    bench = PushBench(kafka_bootstrap)
    await bench.make_topics(*bench.topics.partitioned, bench.orders)
    async with bench.producer:
        yield bench
