"""What the API is told by the installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from api.body_policy import NO_BODIES, BodyPolicy
from api.catalogue import NO_ACCESS, CollectionAccess
from api.table_read import Telling
from events.event_schema import EventSchemas


@dataclass(frozen=True, slots=True)
class PostgresApiSource:
    """A PostgreSQL source; `dsn` is of a role that may `set role` to the three of tokens.

    `database` names its database in events; `reads` says when reads are told of; `bodies`
    what of the bodies stands in events.
    """

    dsn: str
    publication: str
    database: str = ""
    reads: Telling = "after"
    bodies: BodyPolicy = NO_BODIES


@dataclass(frozen=True, slots=True)
class MongoApiSource:
    """A MongoDB source and the database of it."""

    uri: str
    database: str
    access: CollectionAccess = NO_ACCESS
    reads: Telling = "after"
    bodies: BodyPolicy = NO_BODIES


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Sources in the order in which a table is looked for, and bounds of a call.

    Where `spill_folder` is set, events that must not be lost are kept there while Kafka is away, up
    to `spill_bytes_max` for each topic; writes are accepted meanwhile where `spills_writes`.
    `schemas` are those of the custom events that may be emitted; `chain_secret` is what the chains
    of listeners' calls are signed with; `secrets` are those that definitions name.
    """

    sources: Mapping[str, PostgresApiSource | MongoApiSource]
    rows_max: int = 1_000
    body_bytes_max: int = 10 * 1024 * 1024
    statement_timeout_s: float = 10.0
    connections_max: int = 16
    schemas: EventSchemas = field(default_factory=EventSchemas)
    chain_secret: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    spill_folder: Path | None = None
    spill_bytes_max: int = 64 * 1024 * 1024
    spills_writes: bool = False
