"""What a run asked its host for, and what it was answered: for `rowcast test`.

Stands between a run and its host calls. In a rehearsal nothing is done for good: PostgreSQL is
asked inside transactions that are rolled back, so that the run sees its own writes; what MongoDB
would change is counted; the cache is only read; mails, and HTTP requests that are no reading ones,
are not sent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from events.json_codec import JsonObject, JsonValue
from events.run import RunRequest
from listener_runtime.errors import HostCallError
from listener_runtime.host_calls import HostCalls, RunCalls

_READING_CALLS: Final = (
    *("db.fetch", "db.fetch_one", "cache.get"),
    *("mongo.find", "mongo.find_one", "mongo.count", "mongo.aggregate"),
)
_READING_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class TracedCall:
    """One host call; `rehearsed` where it was not done for good."""

    name: str
    args: JsonObject
    duration_ms: float
    answer: JsonValue = None
    error: str | None = None
    rehearsed: bool = False


class TracedHost:
    """Host calls whose runs write into `calls`, in the order in which they end."""

    def __init__(self, host: HostCalls, *, rehearse: bool) -> None:
        self.calls: list[TracedCall] = []
        self._host = host
        self._rehearse = rehearse

    def open(self, run: RunRequest) -> TracedCalls:
        """The calls of one run."""
        calls = self._host.open(run)
        return TracedCalls(Rehearsal(calls) if self._rehearse else calls, self.calls)

    async def close(self) -> None:
        """Close what is behind."""
        await self._host.close()


class Rehearsal:
    """The calls of a run that leaves nothing behind."""

    def __init__(self, calls: RunCalls) -> None:
        self._calls = calls
        self._transactions: dict[str, int] = {}
        self._sources: dict[int, str] = {}

    async def call(self, name: str, args: JsonObject) -> JsonValue:
        """Answer a call; raises HostCallError as the real one does."""
        answer: JsonValue
        match name:
            case "db.execute" | "db.fetch" | "db.fetch_one":
                answer = await self._statement(name, args)
            case "db.begin":
                number = len(self._sources) + 1
                self._sources[number] = str(args.get("source"))
                await self._transaction(self._sources[number])
                answer = {"tx": number}
            case "db.commit" | "db.rollback" | "cache.set":
                answer = {}
            case "mongo.insert":
                documents = args.get("documents")
                given = documents if isinstance(documents, list) else []
                ids = [one.get("_id") if isinstance(one, dict) else None for one in given]
                answer = {"ids": ids}
            case "mongo.update":
                count = await self._count(args)
                answer = {"matched": count, "modified": count, "upserted": None}
            case "mongo.delete":
                answer = {"deleted": await self._count(args)}
            case "http.request" | "api.request" if (
                str(args.get("method")).upper() not in _READING_METHODS
            ):
                answer = {"status": 200, "headers": {}, "body": ""}
            case "mail.send":
                answer = self._calls.check_mail(args)
            case "cache.delete":
                answer = {"deleted": 0}
            case _:
                answer = await self._calls.call(name, args)
        return answer

    async def close(self) -> None:
        """Roll everything back."""
        await self._calls.close()

    async def _statement(self, name: str, args: JsonObject) -> JsonValue:
        tx = args.get("tx")
        source = self._sources.get(tx) if isinstance(tx, int) else None
        source = source or str(args.get("source"))
        inside = {**args, "source": source, "tx": await self._transaction(source)}
        try:
            return await self._calls.call(name, inside)
        except HostCallError:
            # A transaction in which a statement failed takes no more: what follows begins anew.
            await self._calls.call("db.rollback", {"tx": self._transactions.pop(source)})
            raise

    async def _transaction(self, source: str) -> int:
        if source not in self._transactions:
            begun = await self._calls.call("db.begin", {"source": source})
            tx = begun.get("tx") if isinstance(begun, dict) else None
            if not isinstance(tx, int):
                raise HostCallError(f"no transaction was begun in {source}")
            self._transactions[source] = tx
        return self._transactions[source]

    async def _count(self, args: JsonObject) -> int:
        place = {name: args[name] for name in ("source", "collection", "filter") if name in args}
        answer = await self._calls.call("mongo.count", place)
        count = answer.get("count") if isinstance(answer, dict) else None
        found = count if isinstance(count, int) else 0
        return found if args.get("many") is True else min(found, 1)


class TracedCalls:
    """The calls of one run, written down."""

    def __init__(self, calls: RunCalls | Rehearsal, trace: list[TracedCall]) -> None:
        self._calls = calls
        self._trace = trace

    async def call(self, name: str, args: JsonObject) -> JsonValue:
        """Carry out a call and write it down; raises HostCallError as the real one does."""
        rehearsed = isinstance(self._calls, Rehearsal) and not _only_reads(name, args)
        started = time.perf_counter()
        try:
            answer = await self._calls.call(name, args)
        except HostCallError as error:
            taken_ms = (time.perf_counter() - started) * 1_000
            self._trace.append(
                TracedCall(name, args, taken_ms, error=str(error), rehearsed=rehearsed)
            )
            raise
        taken_ms = (time.perf_counter() - started) * 1_000
        self._trace.append(TracedCall(name, args, taken_ms, answer, rehearsed=rehearsed))
        return answer

    async def close(self) -> None:
        """End what the run has left."""
        await self._calls.close()


def _only_reads(name: str, args: JsonObject) -> bool:
    if name in ("http.request", "api.request"):
        return str(args.get("method")).upper() in _READING_METHODS
    return name in _READING_CALLS
