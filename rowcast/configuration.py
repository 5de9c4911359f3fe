"""rowcast.toml and the environment variables over it, as typed values.

What has no address is embedded: a source without `dsn` and a Kafka without `bootstrap` are
started by `rowcast up` itself. An environment variable `ROWCAST__A__B` sets key `b` of table `a`
(`ROWCAST__SOURCES__SHOP__DSN`); its text is read as TOML where it is TOML, as a string otherwise.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast

import msgspec

from api.body_policy import Bodies, BodyPolicy
from rowcast.errors import ConfigurationError
from rowcast.example_files import example_names
from rowcast.mail_settings import MailSettings

ENVIRONMENT_PREFIX = "ROWCAST__"
_SOURCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")

_OWN_NAMES = (["SECRETS"], ["CREDENTIALS"])

TomlTable: TypeAlias = "dict[str, object]"

_Partitions: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Replication: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100)]
# Kafka's own rule for names, and room for what follows it.
_Prefix: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
_RetentionHours: TypeAlias = Annotated[float, msgspec.Meta(ge=-1, le=10_000_000)]
_ProfileMb: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65_536)]
_Heartbeat: TypeAlias = Annotated[float, msgspec.Meta(ge=0.05, le=86_400)]
_Timeout: TypeAlias = Annotated[float, msgspec.Meta(ge=1, le=86_400)]
_Port: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
_MemoryMb: TypeAlias = Annotated[int, msgspec.Meta(ge=220, le=1_048_576)]
_WalBudgetMb: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 30)]
_Rows: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_BodyMb: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=256)]
_StatementTimeout: TypeAlias = Annotated[float, msgspec.Meta(ge=0.01, le=3_600)]
_Connections: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
_GroupRecords: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_SpillMb: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 30)]
_GroupMb: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=256)]
_Processes: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=256)]


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[kafka]: `bootstrap` empty means the embedded one.

    `reads_retention_h` is how long topics of reads are kept: 0 as the broker says, -1 for ever.
    """

    bootstrap: str = ""
    prefix: _Prefix = "rowcast"
    partitions: _Partitions = 4
    replication: _Replication = 1
    reads_retention_h: _RetentionHours = 0


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[http]: `port` 0 means the installation's first; `jwt_secret` empty means one made for it.

    `jwks` is the file or address of a key set; `url` is where the other services reach this one,
    its own address where empty; `without_kafka` says what becomes of writes while Kafka is away,
    `spill_mb` how much may wait on disk; the rest bounds a call of the data API.
    """

    host: str = "127.0.0.1"
    port: _Port = 0
    jwt_secret: str = ""
    jwks: str = ""
    rows_max: _Rows = 1_000
    body_mb: _BodyMb = 10
    statement_timeout_s: _StatementTimeout = 10.0
    connections: _Connections = 16
    without_kafka: Literal["refuse", "spill"] = "refuse"
    spill_mb: _SpillMb = 64
    url: str = ""


class ReadsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[sources.NAME.reads]: what reads as events tell (docs/read-audit.md).

    `statements` says how a statement stands in its event, `parameters` whether what it was given
    does, `data_api` when the data API's reads are told of; `profile_mb` is the size of the
    profiler's collection where it is made.
    """

    statements: Literal["full", "normalized", "none"] = "normalized"
    parameters: bool = False
    data_api: Literal["after", "before", "off"] = "after"
    profile_mb: _ProfileMb = 64


class SourceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[sources.NAME]: one database that is captured.

    `listener_dsn` is the address that listeners' code works through, `api_dsn` the data API's;
    each is `dsn` where empty. `api_read` and `api_write` name, for a MongoDB, the collections
    that roles beside service_role may use. `bodies`, `redact` and `body_kb` say what of the data
    API's bodies stands in events.
    """

    kind: Literal["postgres", "mongo"]
    dsn: str = ""
    listener_dsn: str = ""
    api_dsn: str = ""
    api_read: dict[str, tuple[str, ...]] = {}
    api_write: dict[str, tuple[str, ...]] = {}
    database: str = ""
    slot: str = ""
    publication: str = ""
    tables: tuple[str, ...] = ()
    on_gap: Literal["stop", "continue", "snapshot"] = "stop"
    heartbeat_s: _Heartbeat = 10.0
    timeout_s: _Timeout = 60.0
    on_record_too_large: Literal["stop", "dead_letter"] = "stop"
    keyless_full: bool = True
    pre_images: bool = True
    outbox: Literal["delete", "keep"] = "delete"
    snapshot: Literal["initial", "never"] = "initial"
    wal_budget_mb: _WalBudgetMb = 0
    group_records: _GroupRecords = 20_000
    group_mb: _GroupMb = 8
    streaming: Literal["off", "on"] = "off"
    spill_max_mb: _SpillMb = 16_384
    format: Literal["json", "connect-json"] = "json"
    tombstones: bool = False
    failover_slot: bool = True
    primary_dsn: str = ""
    reads: ReadsSettings = ReadsSettings()
    bodies: Bodies = "none"
    redact: tuple[str, ...] = ()
    body_kb: int = 16

    @property
    def body_policy(self) -> BodyPolicy:
        """What of the data API's bodies stands in events; raises ValueError."""
        return BodyPolicy.parse(self.bodies, self.redact, self.body_kb, each_row=True)


class ListenerHttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[listeners.http]: which `host:port` g.http may call; `private` names inner addresses.

    `own` names those, beside this machine's, where our own HTTP service is.
    """

    allow: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


class ListenerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[listeners]: the sandbox. `processes` are kept ready, `processes_max` under load.

    `cache` is a Redis's address; empty means the embedded cache.
    """

    processes: _Processes = 2
    processes_max: _Processes = 6
    memory_budget_mb: _MemoryMb = 4_096
    cache: str = ""
    http: ListenerHttpSettings = ListenerHttpSettings()


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of rowcast.toml."""

    port_base: int = 8400
    example: str | tuple[str, ...] = ""
    example_servers: dict[str, str] = {}
    kafka: KafkaSettings = KafkaSettings()
    http: HttpSettings = HttpSettings()
    sources: dict[str, SourceSettings] = {}
    listeners: ListenerSettings = ListenerSettings()
    smtp: MailSettings = MailSettings()
    event_schemas: dict[str, str] = {}
    secrets: dict[str, str] = {}
    credentials: dict[str, str] = {}

    @property
    def definition_secrets(self) -> dict[str, str]:
        """What definitions of third-party APIs may name; listeners see only `secrets`."""
        return {**self.secrets, **self.credentials}

    @property
    def examples(self) -> tuple[str, ...]:
        """The examples that `up` loads."""
        named = (self.example,) if isinstance(self.example, str) else self.example
        return tuple(name for name in named if name)


def read_configuration(file: Path, environment: Mapping[str, str]) -> Configuration:
    """The configuration of a file, the environment's variables over it.

    Raises ConfigurationError with the file, what was found and what was expected.
    """
    try:
        text = file.read_text()
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{file} was not found; `rowcast up --dir {file.parent}` makes one, "
            "or name another folder with --dir"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    return parse_configuration(text, environment, str(file))


def parse_configuration(text: str, environment: Mapping[str, str], name: str) -> Configuration:
    """The configuration that a text writes; `name` stands in errors."""
    try:
        table: TomlTable = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not TOML: {error}") from error
    for variable, value in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX):
            _lay_over(table, variable, value)
    try:
        configuration = msgspec.convert(table, Configuration)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{name}: {_explain(str(error))}") from error
    for example in configuration.examples:
        if example not in example_names():
            raise ConfigurationError(
                f"{name}: found the example {example!r}, expected one of "
                f"{', '.join(example_names())}"
            )
    for source, settings in configuration.sources.items():
        _check_source(name, source, settings)
    return configuration


def _check_source(name: str, source: str, settings: SourceSettings) -> None:
    """Raise where a source's settings contradict one another; `name` is the file's."""
    if not _SOURCE_NAME.fullmatch(source):
        raise ConfigurationError(
            f"{name}: found the source name {source!r}, expected lower-case letters, digits "
            "and underscores, a letter first; it becomes part of topic and slot names"
        )
    try:
        _ = settings.body_policy
    except ValueError as error:
        raise ConfigurationError(f"{name}: [sources.{source}]: {error}") from error
    if settings.kind == "mongo" and settings.on_gap == "snapshot":
        raise ConfigurationError(
            f"{name}: found on_gap = 'snapshot' in [sources.{source}], expected 'stop' or "
            "'continue' for a MongoDB; only PostgreSQL's tables are loaded by snapshots"
        )
    if settings.kind == "mongo" and (settings.format != "json" or settings.tombstones):
        found = "tombstones = true" if settings.tombstones else "format = 'connect-json'"
        raise ConfigurationError(
            f"{name}: found {found} in [sources.{source}], expected it on a PostgreSQL source "
            "only: a document has no schema of columns that a sink could write"
        )
    if settings.kind == "mongo" and settings.on_record_too_large != "stop":
        raise ConfigurationError(
            f"{name}: found on_record_too_large in [sources.{source}], expected it for a "
            "PostgreSQL only; of a document that is too large MongoDB's capture tells the key"
        )


def _lay_over(table: TomlTable, variable: str, value: str) -> None:
    *folders, key = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
    # Names of secrets are the user's own and keep their case; all other keys are lower-case.
    if folders[:1] not in _OWN_NAMES:
        key = key.lower()
    place = table
    for folder in folders:
        below = place.setdefault(folder.lower(), {})
        if not isinstance(below, dict):
            raise ConfigurationError(
                f"the environment variable {variable} names a key below {folder.lower()!r}, "
                "which is no table in rowcast.toml"
            )
        place = cast("TomlTable", below)
    place[key] = _read_value(value) if folders[:1] not in _OWN_NAMES else value


def _read_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(message: str) -> str:
    match = _UNKNOWN_FIELD.search(message)
    if match is None:
        return message
    path = match["path"] or ""
    known = sorted(_fields_at(path))
    near = difflib.get_close_matches(match["field"], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    place = f"in [{path.replace('[...]', '')}]" if path else "at the top"
    return f"found the unknown key {match['field']!r} {place}, expected {', '.join(known)}{hint}"


def _fields_at(path: str) -> tuple[str, ...]:
    structs: dict[str, type[msgspec.Struct]] = {
        "": Configuration,
        "kafka": KafkaSettings,
        "http": HttpSettings,
        "listeners": ListenerSettings,
        "listeners.http": ListenerHttpSettings,
        "smtp": MailSettings,
    }
    found = ReadsSettings if path.endswith(".reads") else SourceSettings
    return structs.get(path, found).__struct_encode_fields__
