"""The servers that capture's benches run against, in a folder of their own; not yet started."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from tests.port_base import free_ports

_HEAP_MB = 1024


@contextmanager
def bench_servers() -> Generator[tuple[Path, EmbeddedKafka, EmbeddedPostgres]]:
    """The folder, which is gone at the end, a Kafka and a PostgreSQL with the database `bench`."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port, controller, pg_port = free_ports(3)
        kafka = EmbeddedKafka(folder / "kafka", port, controller, folder / "kafka.log", _HEAP_MB)
        postgres = EmbeddedPostgres(
            *(folder / "postgres", pg_port, folder / "postgres.log", "owner", "listener"),
            databases=("bench",),
            settings=(("max_wal_size", "8GB"), ("synchronous_commit", "on")),
        )
        yield folder, kafka, postgres
