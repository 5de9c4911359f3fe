"""A few kills of `make ledger`; docs/reliability.md has a run of two hundred."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.faults import ledger

pytestmark = [pytest.mark.faults, pytest.mark.integration]

KILLS = 4


def test_kills_of_capture_kafka_and_postgres_under_load_lose_nothing_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("ROWCAST_FAULT_SEED", "0")) or random.randrange(1, 2**32)
    print(f"ROWCAST_FAULT_SEED={seed}")
    found = ledger.run(tmp_path, KILLS, seed)
    text = found.text()
    assert found.verification is not None
    assert found.verification.difference_count == 0, text
    assert found.verification.statements == []
    assert not any(table.untold for table in found.verification.tables)
    assert found.transactions > 100
    assert len(found.kills) == KILLS
    assert found.kills[-1].caught_up_s is not None
