"""What the sandbox is given: the image and its processes, and what host calls may reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from events.event_schema import EventSchemas


@dataclass(frozen=True, slots=True)
class PostgresAccess:
    """A PostgreSQL that listeners reach as `g.db(name)`; `dsn` is of the role they work as."""

    dsn: str


@dataclass(frozen=True, slots=True)
class MongoAccess:
    """A MongoDB database that listeners reach as `g.db(name)`."""

    uri: str
    database: str


DatabaseAccess: TypeAlias = PostgresAccess | MongoAccess


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """The server that takes our mails, and whose they are; no `host` means that there is none.

    `domains` are those of recipients that mails may go to, any where it is empty.
    """

    host: str = ""
    port: int = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)
    sender: str = ""
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What host calls may reach.

    `http_allow` holds `host:port` that g.http may call; `http_private` those of them that may lie
    on private or loopback addresses; `http_own` those where our own HTTP service is, which get the
    run's chain, signed with `chain_secret`; `service_url` is where g.api reaches that service;
    `cache` is the address of a Redis, the embedded cache where empty; `schemas` are those of the
    events that runs emit; `smtp` is where mails go.
    """

    databases: Mapping[str, DatabaseAccess] = field(default_factory=dict[str, DatabaseAccess])
    http_allow: tuple[str, ...] = ()
    http_private: tuple[str, ...] = ()
    http_own: tuple[str, ...] = ()
    chain_secret: str = ""
    service_url: str = ""
    cache: str = ""
    cache_prefix: str = "rowcast"
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    schemas: EventSchemas = field(default_factory=EventSchemas)
    smtp: SmtpSettings = SmtpSettings()


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How the processes are kept.

    `image` is the folder that `python -m listener_runtime.image` makes, `deno` the program;
    `processes` are kept ready, `processes_max` is how many there may be under load, as long as
    they come to `memory_budget_mb` at most; one that nobody needed for `idle_s` is ended. `images`
    is the folder of the images with tenants' packages (tenant_images.py), `image` that of all
    other tenants.
    """

    image: Path
    deno: Path
    processes: int = 2
    processes_max: int = 6
    memory_budget_mb: int = 4_096
    idle_s: float = 30.0
    images: Path | None = None
