"""Real servers for the whole session, each started when a test first asks for it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.mongo import EmbeddedMongo
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.server import EmbeddedServer
from tests.audited_postgres import audited_postgres
from tests.integration.live_installation import LiveInstallation
from tests.port_base import free_port_base, free_ports

START_LIMIT_S = 90.0

# How long an example takes depends on who else uses the machine; no test is about that.
settings.register_profile("rowcast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rowcast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: pure ones, then those with servers, then the faults."""

    def cost(item: pytest.Item) -> int:
        if item.get_closest_marker("faults"):
            return 2
        return 1 if item.get_closest_marker("integration") else 0

    items.sort(key=cost)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def running(server: EmbeddedServer) -> Generator[EmbeddedServer]:
    """The server, started and initialised; stopped cleanly at the end."""
    server.prepare()
    spec = server.process()
    with spec.log.open("ab") as log:
        process = subprocess.Popen(
            spec.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **spec.environment},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not asyncio.run(server.answers()):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = spec.log.read_text(errors="replace")[-2_000:]
                pytest.fail(f"{spec.name} did not start: {tail}")
            time.sleep(0.1)
        asyncio.run(server.initialise())
        yield server
    finally:
        process.send_signal(spec.stop_signal)
        try:
            process.wait(spec.stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def kafka_bootstrap(servers_folder: Path) -> Iterator[str]:
    port, controller_port = free_ports(2)
    kafka = EmbeddedKafka(
        *(servers_folder / "kafka", port, controller_port, servers_folder / "kafka.log"),
        short_lived=True,
    )
    with running(kafka):
        yield kafka.bootstrap


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    (port,) = free_ports(1)
    server = EmbeddedPostgres(
        servers_folder / "postgres",
        port,
        servers_folder / "postgres.log",
        password="owner-secret",
        listener_password="listener-secret",
        databases=("shop",),
        settings=(("max_prepared_transactions", "10"),),
        api_password="api-secret",
    )
    with running(server):
        yield server


@pytest.fixture(scope="session")
def postgres_dsn(postgres: EmbeddedPostgres) -> str:
    """A superuser's address of the database `shop` on PostgreSQL 18, wal_level logical."""
    return postgres.dsn("shop")


@pytest.fixture(scope="session")
def audited_dsn(servers_folder: Path) -> Iterator[str]:
    """A superuser's address of the database `shop` on PostgreSQL 15 with pgaudit."""
    server = audited_postgres(servers_folder / "postgres-pgaudit")
    with running(server):
        yield server.dsn("shop")


@pytest.fixture(scope="session")
def mongo_uri(servers_folder: Path) -> Iterator[str]:
    """A replica set of one, MongoDB 6.0.5."""
    (port,) = free_ports(1)
    server = EmbeddedMongo(servers_folder / "mongo", port, servers_folder / "mongo.log")
    with running(server):
        yield server.uri


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstallation]:
    """One running installation with the example shop, shared by the tests that leave it so."""
    installation = LiveInstallation(tmp_path_factory.mktemp("live") / "shop", free_port_base())
    installation.start()
    yield installation
    installation.stop()
