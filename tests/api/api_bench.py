"""The API of a test's own: real PostgreSQL and Kafka, called through ASGI."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import LiteralString

import httpx
import psycopg
from psycopg import sql
from starlette.applications import Starlette

from api.definition_table import DefinitionTable
from api.mongo_data import Mending
from api.service import ApiService
from api.settings import ApiSettings, MongoApiSource, PostgresApiSource
from api.third_party_api import PartySettings
from cdc.topic_creation import ensure_own_topics, ensure_topics
from events.cluster import Cluster
from events.event_schema import EventSchemas
from events.kept_definition import KeptDefinition
from events.token import Role, TokenVerifier, make_token
from events.topic import Topics
from infra.embedded.postgres import EmbeddedPostgres
from listener_runtime.own_service import OwnService
from rowcast.outbound import PinnedOutbound

SECRET = "a secret of thirty-two characters"


def bearer(role: Role = "authenticated", subject: str = "ada") -> dict[str, str]:
    """The header of a caller."""
    token = make_token(SECRET, role, subject, 3_600, now=time.time())
    return {"Authorization": f"Bearer {token}"}


def new_database(postgres: EmbeddedPostgres, statements: LiteralString) -> str:
    """A database with these tables; returns its name."""
    name = f"api_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        connection.execute(statements)
    return name


def drop_database(postgres: EmbeddedPostgres, name: str) -> None:
    """Away with it."""
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@asynccontextmanager
async def serving(
    bootstrap: str,
    sources: Mapping[str, PostgresApiSource | MongoApiSource],
    *,
    rows_max: int = 1_000,
    statement_timeout_s: float = 10.0,
    body_bytes_max: int = 100_000,
    schemas: EventSchemas | None = None,
    topics: Topics | None = None,
    definitions: Sequence[KeptDefinition] = (),
    secrets: Mapping[str, str] | None = None,
    mongo_mending: Mending | None = None,
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an API over these sources, as `ada`."""
    topics = topics or Topics(f"api{uuid.uuid4().hex[:8]}")
    cluster = Cluster(bootstrap, topics, partitions=2)
    await ensure_own_topics(cluster)
    settings = ApiSettings(
        sources,
        rows_max=rows_max,
        body_bytes_max=body_bytes_max,
        statement_timeout_s=statement_timeout_s,
        connections_max=4,
        schemas=schemas or EventSchemas(),
        secrets=secrets or {},
        chain_secret=SECRET,
    )
    verifier = TokenVerifier(SECRET, nameless=True)
    make_topics = partial(ensure_topics, cluster)
    table = DefinitionTable()
    table.replace(definitions, {})
    service = ApiService(
        cluster,
        verifier,
        settings,
        make_topics=make_topics,
        parties=PartySettings(table, PinnedOutbound(OwnService((), ""))),
        mongo_mending=mongo_mending,
    )
    await service.start()
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(service.in_front_of(Starlette(routes=service.routes()))),
            base_url="http://api/rest/v1",
            headers=bearer(),
            timeout=60,
        ) as client:
            yield client
    finally:
        await service.close()
