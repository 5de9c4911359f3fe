"""One installation: a folder with its configuration, its secrets, its servers' data.

DIR/rowcast.toml    written once with what `up` starts from, then the user's
DIR/secrets.json    passwords and the token secret made for it; its owner's eyes only
DIR/status.json     what runs, written by the supervisor
DIR/packages        tenants' third-party packages: locks and wheels
DIR/images          the sandbox images made of them
DIR/unsent          events of API calls that Kafka has not taken yet
DIR/spill           transactions in progress, where a source has streaming = "on"
DIR/kafka, postgres, mongo, logs
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from psycopg.conninfo import conninfo_to_dict

from api.catalogue import CollectionAccess
from api.settings import ApiSettings, MongoApiSource, PostgresApiSource
from cdc.mongo_source import MongoSource
from cdc.postgres_source import PostgresSource
from cdc.statement_read import StatementDetail
from events.cluster import Cluster
from events.errors import EventsError
from events.event_schema import EventSchemas
from events.json_codec import JsonValue, decode
from events.topic import Topics
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.mongo import EmbeddedMongo
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.server import EmbeddedServer
from listener_runtime.own_service import OwnService
from listener_runtime.settings import HostSettings, MongoAccess, PostgresAccess, SmtpSettings
from rowcast.configuration import (
    Configuration,
    SourceSettings,
    read_configuration,
)
from rowcast.errors import ConfigurationError, NotFoundError
from rowcast.mail_settings import smtp_settings
from rowcast.new_configuration import new_configuration

DEFAULT_FOLDER = Path(".rowcast")
_PORTS_NEEDED = 5
_LAST_PORT = 65_535


class Secrets(msgspec.Struct, frozen=True):
    """What was made for this installation alone."""

    postgres_password: str
    listener_password: str
    jwt_secret: str

    @property
    def api_password(self) -> str:
        """The data API's role's, which follows from the owner's."""
        return hashlib.sha256(f"rowcast_api {self.postgres_password}".encode()).hexdigest()

    @classmethod
    def make(cls) -> Secrets:
        """Fresh ones."""
        return cls(secrets.token_urlsafe(18), secrets.token_urlsafe(18), secrets.token_urlsafe(36))


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder, what its files say, and what follows from them."""

    folder: Path
    configuration: Configuration
    secrets: Secrets
    port_base: int

    @property
    def http_port(self) -> int:
        """Port of the HTTP service."""
        return self.configuration.http.port or self.port_base

    @property
    def http_url(self) -> str:
        """Address of the HTTP service."""
        return f"http://{self.configuration.http.host}:{self.http_port}"

    @property
    def service_url(self) -> str:
        """Where the other services reach the HTTP service."""
        if self.configuration.http.url:
            return self.configuration.http.url
        host = self.configuration.http.host
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        return (
            f"http://[{host}]:{self.http_port}"
            if ":" in host
            else f"http://{host}:{self.http_port}"
        )

    @property
    def jwt_secret(self) -> str:
        """What tokens are signed with."""
        return self.configuration.http.jwt_secret or self.secrets.jwt_secret

    @property
    def jwks(self) -> str:
        """Where the public keys of tokens are: an address, or a file beside rowcast.toml."""
        place = self.configuration.http.jwks
        is_file = bool(place) and not place.startswith(("http://", "https://"))
        return str(self.folder / place) if is_file else place

    @property
    def logs(self) -> Path:
        """Folder of the processes' logs."""
        return self.folder / "logs"

    @property
    def unsent(self) -> Path:
        """Folder of events that Kafka has not taken yet."""
        return self.folder / "unsent"

    @property
    def images(self) -> Path:
        """Folder of the sandbox images of tenants with packages."""
        return self.folder / "images"

    @property
    def status_file(self) -> Path:
        """Where the supervisor writes what runs."""
        return self.folder / "status.json"

    @property
    def kafka_server(self) -> EmbeddedKafka | None:
        """The embedded Kafka where it is used."""
        if self.configuration.kafka.bootstrap:
            return None
        return EmbeddedKafka(
            self.folder / "kafka",
            port=self.port_base + 1,
            controller_port=self.port_base + 4,
            log=self.logs / "kafka.log",
        )

    @property
    def postgres_server(self) -> EmbeddedPostgres | None:
        """The embedded PostgreSQL where a source is in it."""
        databases = tuple(self.database(name) for name, _ in self._embedded_sources("postgres"))
        if not databases:
            return None
        return EmbeddedPostgres(
            self.folder / "postgres",
            port=self.port_base + 2,
            log=self.logs / "postgres.log",
            password=self.secrets.postgres_password,
            listener_password=self.secrets.listener_password,
            api_password=self.secrets.api_password,
            databases=databases,
        )

    @property
    def mongo_server(self) -> EmbeddedMongo | None:
        """The embedded MongoDB where a source is in it."""
        if not self._embedded_sources("mongo"):
            return None
        return EmbeddedMongo(self.folder / "mongo", self.port_base + 3, self.logs / "mongo.log")

    @property
    def servers(self) -> tuple[EmbeddedServer, ...]:
        """The embedded servers, in the order in which they are started."""
        found = (self.kafka_server, self.postgres_server, self.mongo_server)
        return tuple(server for server in found if server is not None)

    @property
    def cluster(self) -> Cluster:
        """Kafka as this installation uses it."""
        kafka = self.configuration.kafka
        embedded = self.kafka_server
        return Cluster(
            bootstrap=embedded.bootstrap if embedded else kafka.bootstrap,
            topics=Topics(kafka.prefix),
            sources=tuple(sorted(self.configuration.sources)),
            partitions=kafka.partitions,
            replication=kafka.replication,
            reads_retention_ms=_retention_ms(kafka.reads_retention_h),
        )

    def source(self, name: str) -> SourceSettings:
        """The settings of a source; raises NotFoundError for a name that there is not."""
        try:
            return self.configuration.sources[name]
        except KeyError as error:
            known = ", ".join(self.configuration.sources) or "none"
            raise NotFoundError(
                f"found the source name {name!r}, expected one of [sources] in "
                f"{self.folder / 'rowcast.toml'}: {known}"
            ) from error

    def database(self, name: str) -> str:
        """The database of a source, its own name where none is set."""
        return self.source(name).database or name

    def dsn(self, name: str) -> str:
        """Address of a source."""
        settings = self.source(name)
        if settings.dsn:
            return settings.dsn
        if settings.kind == "mongo":
            return self.mongo_server.uri if self.mongo_server else ""
        return self.postgres_server.dsn(self.database(name)) if self.postgres_server else ""

    def listener_dsn(self, name: str) -> str:
        """Address of a source for listeners' code."""
        settings = self.source(name)
        if settings.listener_dsn or settings.dsn or settings.kind == "mongo":
            return settings.listener_dsn or self.dsn(name)
        server = self.postgres_server
        return server.listener_dsn(self.database(name)) if server else ""

    def api_dsn(self, name: str) -> str:
        """Address of a source for the data API."""
        settings = self.source(name)
        if settings.api_dsn or settings.dsn or settings.kind == "mongo":
            return settings.api_dsn or self.dsn(name)
        server = self.postgres_server
        return server.api_dsn(self.database(name)) if server else ""

    def event_schemas(self) -> EventSchemas:
        """The JSON Schemas of [event_schemas], read now.

        Raises ConfigurationError for a file that is missing or holds none.
        """
        found: dict[str, JsonValue] = {}
        for event_type, name in self.configuration.event_schemas.items():
            file = self.folder / name
            try:
                found[event_type] = decode(file.read_bytes())
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"the schema of {event_type} in [event_schemas] was not read from {file}: "
                    f"{error}; expected a file with a JSON Schema"
                ) from error
        try:
            return EventSchemas(found)
        except EventsError as error:
            raise ConfigurationError(f"[event_schemas]: {error}") from error

    def api_settings(self) -> ApiSettings:
        """What the HTTP side is given."""
        sources: dict[str, PostgresApiSource | MongoApiSource] = {}
        for name, settings in self.configuration.sources.items():
            if settings.kind == "postgres":
                publication = settings.publication or f"rowcast_{name}"
                address = self.api_dsn(name)
                database = conninfo_to_dict(address).get("dbname") or self.database(name)
                sources[name] = PostgresApiSource(
                    *(address, publication, str(database), settings.reads.data_api),
                    bodies=settings.body_policy,
                )
            else:
                sources[name] = MongoApiSource(
                    self.api_dsn(name),
                    self.database(name),
                    CollectionAccess(settings.api_read, settings.api_write),
                    settings.reads.data_api,
                    settings.body_policy,
                )
        http = self.configuration.http
        return ApiSettings(
            sources=sources,
            rows_max=http.rows_max,
            body_bytes_max=http.body_mb * 1024 * 1024,
            statement_timeout_s=http.statement_timeout_s,
            connections_max=http.connections,
            schemas=self.event_schemas(),
            chain_secret=self.jwt_secret,
            secrets=self.configuration.definition_secrets,
            spill_folder=self.unsent,
            spill_bytes_max=http.spill_mb * 1024 * 1024,
            spills_writes=http.without_kafka == "spill",
        )

    def postgres_source(self, name: str) -> PostgresSource:
        """What PostgreSQL capture is given."""
        settings = self.source(name)
        return PostgresSource(
            name=name,
            dsn=self.dsn(name),
            slot=settings.slot or f"rowcast_{name}",
            publication=settings.publication or f"rowcast_{name}",
            tables=settings.tables,
            on_gap=settings.on_gap,
            heartbeat_s=settings.heartbeat_s,
            timeout_s=settings.timeout_s,
            on_record_too_large=settings.on_record_too_large,
            keyless_full=settings.keyless_full,
            snapshot=settings.snapshot,
            wal_budget_mb=settings.wal_budget_mb,
            group_records=settings.group_records,
            group_mb=settings.group_mb,
            streaming=settings.streaming,
            spill_folder=str(self.folder / "spill" / name),
            spill_max_mb=settings.spill_max_mb,
            format=settings.format,
            tombstones=settings.tombstones,
            failover_slot=settings.failover_slot,
            primary_dsn=settings.primary_dsn,
            schemas=self.event_schemas(),
        )

    def statement_detail(self, name: str) -> StatementDetail:
        """How much of statements stands in the events of reads of a source."""
        reads = self.source(name).reads
        return StatementDetail(reads.statements, parameters=reads.parameters)

    def mongo_source(self, name: str) -> MongoSource:
        """What MongoDB capture is given."""
        settings = self.source(name)
        return MongoSource(
            name=name,
            uri=self.dsn(name),
            database=settings.database or None,
            on_gap="continue" if settings.on_gap == "continue" else "stop",
            heartbeat_s=settings.heartbeat_s,
            pre_images=settings.pre_images,
            outbox=settings.outbox,
            statements=settings.reads.statements,
            profile_mb=settings.reads.profile_mb,
            mark_secret=self.jwt_secret,
            schemas=self.event_schemas(),
        )

    def host_settings(self) -> HostSettings:
        """What the sandbox's host calls may reach."""
        databases: dict[str, PostgresAccess | MongoAccess] = {}
        for name, settings in self.configuration.sources.items():
            address = self.listener_dsn(name)
            if settings.kind == "postgres":
                databases[name] = PostgresAccess(address)
            else:
                databases[name] = MongoAccess(address, self.database(name))
        http = self.configuration.listeners.http
        return HostSettings(
            databases=databases,
            http_allow=http.allow,
            http_private=http.private,
            http_own=(*self._own_addresses(), *http.own),
            chain_secret=self.jwt_secret,
            service_url=self.service_url,
            cache=self.configuration.listeners.cache,
            cache_prefix=self.configuration.kafka.prefix,
            secrets=self.configuration.secrets,
            schemas=self.event_schemas(),
            smtp=self.smtp_settings(),
        )

    def smtp_settings(self) -> SmtpSettings:
        """The server that takes mails; raises ConfigurationError where [smtp] is wrong."""
        return smtp_settings(self.configuration.smtp, self.configuration.secrets)

    def own_service(self) -> OwnService:
        """Where calls carry their chain; raises SandboxError for an entry that is none."""
        http = self.configuration.listeners.http
        return OwnService((*self._own_addresses(), *http.own), self.jwt_secret)

    def _own_addresses(self) -> tuple[str, ...]:
        """Where the HTTP service listens on this machine."""
        host = self.configuration.http.host
        return tuple(
            f"[{one}]:{self.http_port}" if ":" in one else f"{one}:{self.http_port}"
            for one in dict.fromkeys(("127.0.0.1", "::1", host))
            if one not in ("0.0.0.0", "::")
        )

    def _embedded_sources(self, kind: str) -> list[tuple[str, SourceSettings]]:
        return [
            (name, source)
            for name, source in self.configuration.sources.items()
            if source.kind == kind and not source.dsn
        ]


def _retention_ms(hours: float) -> int | None:
    """As Kafka has it, -1 for ever; None leaves it to the broker."""
    if hours == 0:
        return None
    return -1 if hours < 0 else int(hours * 3_600_000)


def make_installation(
    folder: Path, port_base: int | None, examples: Sequence[str] = ("shop",)
) -> None:
    """Write the files that are missing in a folder, the folder too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    file = folder / "rowcast.toml"
    if not file.exists():
        base = port_base or Configuration().port_base
        file.write_text(new_configuration(base, examples))


def open_installation(
    folder: Path, environment: Mapping[str, str] = os.environ, port_base: int | None = None
) -> Installation:
    """The installation in a folder.

    Raises ConfigurationError where its files are missing or wrong.
    """
    folder = folder.absolute()
    configuration = read_configuration(folder / "rowcast.toml", environment)
    base = port_base or configuration.port_base
    if not 1 <= base <= _LAST_PORT - _PORTS_NEEDED:
        raise ConfigurationError(
            f"found the port base {base}, expected 1 to {_LAST_PORT - _PORTS_NEEDED}"
        )
    return Installation(folder, configuration, _read_secrets(folder / "secrets.json"), base)


def _read_secrets(file: Path) -> Secrets:
    if not file.exists():
        made = Secrets.make()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(msgspec.json.encode(made))
        return made
    try:
        return msgspec.json.decode(file.read_bytes(), type=Secrets)
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            f"{file} is damaged ({error}); expected the passwords made for this installation. "
            "Restore it from a backup: the embedded PostgreSQL knows only those"
        ) from error
