"""A second capture of the same source, started by mistake while the first works."""

from __future__ import annotations

import random
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from events.cluster import Cluster
from events.topic import Topics
from tests.faults.load import LIMIT_S, Postgres, Writer
from tests.faults.processes import ServiceProcess, assert_verified, capture_process

pytestmark = [pytest.mark.faults, pytest.mark.integration]

CAPTURES = 4


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[Postgres]:
    made = Postgres(postgres_dsn)
    made.prepare()
    yield made
    made.close()


def test_the_older_capture_says_who_has_taken_over_and_stops_and_nothing_is_lost_or_twice(
    database: Postgres, kafka_bootstrap: str, tmp_path: Path
) -> None:
    source = f"s{uuid.uuid4().hex[:12]}"
    cluster = Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), (source,))
    moments = random.Random(1)
    with ExitStack() as stack:
        writer = Writer(database, 1)
        older: tuple[ServiceProcess, subprocess.Popen[bytes]] | None = None
        for number in range(CAPTURES):
            log = tmp_path / f"capture{number}.log"
            capture = capture_process(database, cluster, source, log)
            process = stack.enter_context(capture.started())
            if older is None:
                capture.wait_until_ready(process)
                writer.start()
            else:
                service, its_process = older
                assert its_process.wait(LIMIT_S) != 0
                assert f"taken over, process {process.pid} on " in service.said()
                capture.wait_until_ready(process)
            older = capture, process
            time.sleep(moments.uniform(0.2, 1.0))
        writer.stop()
        found = assert_verified(database, cluster, source)
    assert found.tables[0].records == len(writer.committed)
