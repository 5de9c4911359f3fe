"""What a listener's `g` and `event` are, for editors: `from rowcast_guest import Event, G`.

Types only (see docs/listeners.md); in the sandbox the names stand for the real ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar

__all__ = [
    "Api",
    "Cache",
    "Collection",
    "Database",
    "Event",
    "G",
    "Http",
    "Log",
    "Mail",
    "Response",
    "Schedule",
    "Secrets",
    "State",
]

Json: TypeAlias = Any
_First = TypeVar("_First")


class Event(TypedDict, total=False):
    """An event as it stands on Kafka; a change has `before` and `after`, a custom one `data`."""

    id: str
    type: str
    op: Literal["c", "u", "d", "t", "r"]
    before: dict[str, Json] | None
    after: dict[str, Json] | None
    changed: list[str] | None
    unavailable: list[str]
    source: dict[str, Json]
    transaction: dict[str, Json]
    data: Json
    cause: dict[str, str]
    ts_ms: int


class Response(Protocol):
    """An answer of `g.http`; names in `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    text: str
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        ...

    def json(self) -> Json:
        """The body as JSON."""
        ...

    def raise_for_status(self) -> Response:
        """Itself; raises HostError where the status is not 2xx."""
        ...


class Http(Protocol):
    """Calls to addresses that `[listeners.http] allow` names."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        json: Json = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Call an address; returns its answer, whatever the status."""
        ...

    async def get(self, url: str, **options: Json) -> Response:
        """GET."""
        ...

    async def post(self, url: str, **options: Json) -> Response:
        """POST."""
        ...

    async def put(self, url: str, **options: Json) -> Response:
        """PUT."""
        ...

    async def patch(self, url: str, **options: Json) -> Response:
        """PATCH."""
        ...

    async def delete(self, url: str, **options: Json) -> Response:
        """DELETE."""
        ...


class Api(Protocol):
    """A third-party API; its credential is added outside of the sandbox."""

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        params: Mapping[str, Json] | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        json: Json = None,
        timeout_s: float | None = None,
    ) -> Response:
        """Call a path of it; returns its answer, whatever the status."""
        ...

    async def get(self, path: str = "", **options: Json) -> Response:
        """GET."""
        ...

    async def post(self, path: str = "", **options: Json) -> Response:
        """POST."""
        ...

    async def put(self, path: str = "", **options: Json) -> Response:
        """PUT."""
        ...

    async def patch(self, path: str = "", **options: Json) -> Response:
        """PATCH."""
        ...

    async def delete(self, path: str = "", **options: Json) -> Response:
        """DELETE."""
        ...


class Collection(Protocol):
    """A MongoDB collection; documents are relaxed Extended JSON."""

    async def find(
        self,
        filter: Mapping[str, Json] | None = None,
        *,
        projection: Mapping[str, Json] | None = None,
        sort: Mapping[str, int] | Sequence[tuple[str, int]] | None = None,
        limit: int | None = None,
        skip: int | None = None,
    ) -> list[dict[str, Json]]:
        """The documents that a filter selects."""
        ...

    async def find_one(
        self,
        filter: Mapping[str, Json] | None = None,
        *,
        projection: Mapping[str, Json] | None = None,
        sort: Mapping[str, int] | Sequence[tuple[str, int]] | None = None,
    ) -> dict[str, Json] | None:
        """The first of them, or None."""
        ...

    async def aggregate(self, pipeline: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
        """The documents that a pipeline of reading stages gives."""
        ...

    async def count(self, filter: Mapping[str, Json] | None = None) -> int:
        """How many documents a filter selects."""
        ...

    async def insert(self, *documents: Mapping[str, Json] | list[Mapping[str, Json]]) -> list[Json]:
        """Insert documents; returns their ids."""
        ...

    async def update(
        self,
        filter: Mapping[str, Json],
        update: Mapping[str, Json] | Sequence[Mapping[str, Json]],
        *,
        upsert: bool = False,
        many: bool = False,
    ) -> dict[str, Json]:
        """Update; returns {"matched", "modified", "upserted"}."""
        ...

    async def delete(self, filter: Mapping[str, Json], *, many: bool = False) -> int:
        """Delete; returns how many."""
        ...


class Database(Protocol):
    """A source: SQL where it is PostgreSQL, `collection` where it is MongoDB."""

    async def execute(self, sql: str, *params: Json) -> int:
        """Run a statement with $1, $2 ...; returns how many rows it touched."""
        ...

    async def fetch(self, sql: str, *params: Json) -> list[dict[str, Json]]:
        """The rows of a query."""
        ...

    async def query(self, sql: str, *params: Json) -> list[dict[str, Json]]:
        """The same as fetch."""
        ...

    async def fetch_one(self, sql: str, *params: Json) -> dict[str, Json] | None:
        """The first row of a query, or None."""
        ...

    def transaction(self) -> Transaction:
        """`async with g.db("shop").transaction() as tx:` - all of it or nothing."""
        ...

    def collection(self, name: str) -> Collection:
        """A collection of a MongoDB source."""
        ...


class Transaction(Protocol):
    """Commits where its block ends well, rolls back where it raises."""

    async def __aenter__(self) -> Database: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool: ...


class Log(Protocol):
    """Lines of the run's record."""

    def __call__(self, message: object, **fields: Json) -> None:
        """The same as info."""
        ...

    def debug(self, message: object, **fields: Json) -> None:
        """A line that is only of interest to who looks for a mistake."""
        ...

    def info(self, message: object, **fields: Json) -> None:
        """A line of interest."""
        ...

    def warning(self, message: object, **fields: Json) -> None:
        """A line about something unexpected."""
        ...

    def error(self, message: object, **fields: Json) -> None:
        """A line about something wrong."""
        ...


class Schedule(Protocol):
    """Events that are emitted later, each once."""

    def at(
        self,
        when: datetime | str | float,
        type: str,
        data: Json = None,
        *,
        key: Json = None,
        name: str | None = None,
    ) -> Awaitable[None]:
        """Emit at a time: a datetime, ISO 8601 text, or seconds since 1970."""
        ...

    def after(
        self,
        delay: timedelta | str | float,
        type: str,
        data: Json = None,
        *,
        key: Json = None,
        name: str | None = None,
    ) -> Awaitable[None]:
        """Emit after a time: seconds, or text such as "5m" and "1h30m"."""
        ...

    def every(
        self,
        period: timedelta | str | float,
        name: str,
        data: Json = None,
        *,
        key: Json = None,
        catch_up: Literal["last", "all", "none"] = "last",
    ) -> Awaitable[None]:
        """Emit `schedule.<name>` again and again: each so many seconds, or text such as "5m"."""
        ...

    def cron(
        self,
        expression: str,
        name: str,
        data: Json = None,
        *,
        key: Json = None,
        time_zone: str = "UTC",
        catch_up: Literal["last", "all", "none"] = "last",
    ) -> Awaitable[None]:
        """Emit `schedule.<name>` when a cron expression is due, minute to weekday."""
        ...

    def cancel(self, name: str) -> Awaitable[None]:
        """Emit no more what waits under a name."""
        ...


class Cache(Protocol):
    """Values that may be gone at any time, for all listeners of the tenant."""

    async def get(self, key: str, default: Json = None) -> Json:
        """The value of a key, or the default."""
        ...

    async def set(
        self, key: str, value: Json, *, ttl: timedelta | str | float | None = None
    ) -> None:
        """Set a value, gone after `ttl`: seconds, or text such as "5m"."""
        ...

    async def delete(self, key: str | None = None, *, prefix: str | None = None) -> int:
        """Delete a key, or all that begin with a text; returns how many there were."""
        ...


class Mail(Protocol):
    """Mails, by the server that `[smtp]` in rowcast.toml names."""

    async def send(
        self,
        to: str | Sequence[str],
        subject: str,
        text: str = "",
        *,
        html: str = "",
        cc: str | Sequence[str] = (),
        bcc: str | Sequence[str] = (),
        reply_to: str | Sequence[str] = (),
    ) -> str:
        """Send a mail; an address is `ada@example.com` or `Ada <ada@example.com>`.

        Returns its Message-ID, which is the same where the run is tried again.
        """
        ...


class State(Protocol):
    """The listener's own small state: JSON by key, kept if the run ends well."""

    async def get(self, key: str, default: Json = None) -> Json:
        """The value of a key, or the default."""
        ...

    async def set(self, key: str, value: Json) -> None:
        """Set the value of a key."""
        ...

    async def delete(self, key: str) -> bool:
        """Delete a key; returns whether it was there."""
        ...

    async def list(self, prefix: str = "") -> list[str]:
        """The keys that begin with a text, sorted."""
        ...


class Secrets(Protocol):
    """Texts of `[secrets]`."""

    def get(self, name: str, default: str | None = None) -> str | None:
        """The secret's text, or the default."""
        ...

    def __getitem__(self, name: str) -> str: ...


class G(Protocol):
    """The second argument of `main`."""

    listener: str
    attempt: int
    event_chain: dict[str, Json]
    http: Http
    log: Log
    cache: Cache
    mail: Mail
    kv: State
    modules: Any
    schedule: Schedule
    secrets: Secrets

    def db(self, source: str) -> Database:
        """The database of a source, by its name in rowcast.toml."""
        ...

    def api(self, name: str) -> Api:
        """A third-party API, by the name of its definition."""
        ...

    def emit(
        self,
        type: str,
        data: Json = None,
        *,
        key: Json = None,
        delay: timedelta | str | float | None = None,
    ) -> Awaitable[None]:
        """Emit an event `custom.<name>`, once the run has ended well, or so much later."""
        ...

    def push(self, channel: str, data: Json = None) -> Awaitable[None]:
        """Send a message to the WebSocket clients of a channel, once the run has ended well."""
        ...

    async def gather(self, *calls: Awaitable[_First]) -> list[_First]:
        """Await several calls at once; returns their results in order."""
        ...
