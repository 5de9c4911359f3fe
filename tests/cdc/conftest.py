from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from events.cluster import Cluster
from events.topic import Topics
from infra import artifacts
from infra.embedded.postgres import EmbeddedPostgres
from tests.cdc.postgres_place import Place, Role, own_place
from tests.conftest import running
from tests.port_base import free_ports

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - BSON taken apart by assertions


@pytest.fixture
async def client(mongo_uri: str) -> AsyncGenerator[AsyncMongoClient[Json]]:
    async with AsyncMongoClient[Json](mongo_uri) as client:
        yield client


@pytest.fixture
async def database(client: AsyncMongoClient[Json]) -> AsyncGenerator[AsyncDatabase[Json]]:
    name = f"d{uuid.uuid4().hex[:12]}"
    yield client[name]
    await client.drop_database(name)


@pytest.fixture
def cluster(kafka_bootstrap: str) -> Cluster:
    return Cluster(kafka_bootstrap, Topics(f"p{uuid.uuid4().hex[:12]}"), ("shop",))


async def _read_topic(cluster: Cluster, topic: str) -> list[ConsumerRecord]:
    # The end that read_committed sees lags behind a commit until its markers are written.
    async with AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap) as probe:
        if topic not in await probe.topics():
            return []
    async with AIOKafkaConsumer(topic, bootstrap_servers=cluster.bootstrap) as probe:
        ends = await probe.end_offsets(sorted(probe.assignment()))
    # Naming the topic is what makes this client look its partitions up; there is no group.
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    ) as consumer:
        partitions = sorted(consumer.assignment())
        found: list[ConsumerRecord] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
        return found


@pytest.fixture
def read_topic(cluster: Cluster) -> Callable[[str], Awaitable[list[ConsumerRecord]]]:
    """All that read_committed sees of a topic now, in order within each partition."""

    async def read(topic: str) -> list[ConsumerRecord]:
        return await _read_topic(cluster, topic)

    return read


@pytest.fixture
async def place(
    postgres_dsn: str,
    cluster: Cluster,
    read_topic: Callable[[str], Awaitable[list[ConsumerRecord]]],
) -> AsyncGenerator[Place]:
    async with own_place(postgres_dsn, cluster, read_topic) as made:
        yield made


@pytest.fixture
async def role(place: Place) -> AsyncGenerator[Role]:
    made = Role(f"r{uuid.uuid4().hex[:8]}", place.connection)
    await made.run("create role {} login replication password 'x'")
    yield made
    await made.run("drop owned by {}")
    await made.run("drop role {}")


@pytest.fixture(scope="session", params=[15, 16, 17, 18])
def versioned_dsn(request: pytest.FixtureRequest, servers_folder: Path) -> Iterator[str]:
    version = int(request.param)
    programs = artifacts.older_postgres_bins().get(version)
    if programs is not None and not programs.exists():
        # `make test` installs it: a machine without it lacks a step, and must not pass.
        pytest.fail(f"PostgreSQL {version} is not at {programs}; `make test` installs all versions")
    (port,) = free_ports(1)
    server = EmbeddedPostgres(
        servers_folder / f"postgres-{version}",
        port,
        servers_folder / f"postgres-{version}.log",
        password="owner-secret",
        listener_password="listener-secret",
        databases=("shop",),
        programs=programs,
    )
    with running(server):
        yield server.dsn("shop")
