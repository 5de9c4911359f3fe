"""The API service: its sources, its journal, and what it serves."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api.call_journal import CallJournal, TopicMaking
from api.caller import CallerReader
from api.code_serving import CodeServing, CodeSettings
from api.data_api import DataApi, is_data_path
from api.data_source import DataSource
from api.event_api import PATH, EventApi
from api.event_spill import EventSpill
from api.mongo_data import Mending, MongoData
from api.postgres_data import PostgresData
from api.postgres_database import PostgresDatabase
from api.settings import ApiSettings, PostgresApiSource
from api.system_api import SystemApi
from api.system_operation import PREFIX as SYSTEM_PREFIX
from api.system_operation import ServedOperation
from api.third_party_api import PartySettings, ThirdPartyApi
from api.whole_mount import WholeMount
from events.cluster import Cluster
from events.token import TokenVerifier


class ApiService:
    """Started before its routes are served, closed after; `journal` is one of its own if none.

    `make_topics` makes a table's topic of reads before the first one is told of; without `code`
    there are no custom APIs and no hooks, without `parties` no third-party APIs.
    `operations` are those of the system API; `mongo_mending` as api/mongo_data.py has it.
    """

    def __init__(  # noqa: PLR0913 - each room of the API brings what it needs, by name
        self,
        cluster: Cluster,
        verifier: TokenVerifier,
        settings: ApiSettings,
        journal: CallJournal | None = None,
        make_topics: TopicMaking | None = None,
        code: CodeSettings | None = None,
        parties: PartySettings | None = None,
        operations: Sequence[ServedOperation] = (),
        mongo_mending: Mending | None = None,
    ) -> None:
        self._journal = journal or CallJournal(
            cluster,
            cluster.topics.api,
            make_topics=make_topics,
            spill=_spill(settings, "api"),
            spills_writes=settings.spills_writes,
        )
        self._sources: list[DataSource] = [
            PostgresData(PostgresDatabase(name, source, settings), source, settings.rows_max)
            if isinstance(source, PostgresApiSource)
            else MongoData(name, source, settings, mongo_mending)
            for name, source in settings.sources.items()
        ]
        callers = CallerReader(verifier)
        self._emitted = CallJournal(
            cluster,
            cluster.topics.events,
            spill=_spill(settings, "events"),
            spills_writes=settings.spills_writes,
        )
        self._code = code and CodeServing(cluster, settings, code, callers, self._journal)
        hooks = self._code.hooks if self._code else None
        self._data = DataApi(self._sources, callers, self._journal, settings, hooks)
        self._events = EventApi(callers, self._journal, self._emitted, settings, hooks)
        self._parties = parties and ThirdPartyApi(callers, self._journal, settings, parties, hooks)
        self._system = SystemApi(operations, callers, self._journal, settings, hooks)

    async def start(self) -> None:
        """Begin to connect; what is away is waited for behind the scenes."""
        await self._journal.start()
        await self._emitted.start()
        if self._code is not None:
            await self._code.start()
        for source in self._sources:
            await source.open()

    async def close(self) -> None:
        """Send the events that wait, then end all connections."""
        if self._code is not None:
            await self._code.close()
        await self._emitted.close()
        await self._journal.close()
        for source in self._sources:
            await source.close()
        if self._parties is not None:
            await self._parties.close()

    def routes(self) -> list[BaseRoute]:
        """What is served, but the data API."""
        return [
            Route(PATH, self._events),
            WholeMount(SYSTEM_PREFIX, self._system),
            *(self._code.routes() if self._code else ()),
            *(self._parties.routes() if self._parties else ()),
        ]

    def in_front_of(self, app: ASGIApp) -> ASGIApp:
        """The data API, and `app` for all else, whose router would cost each call a tenth more."""
        data = self._data

        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and is_data_path(scope["path"]):
                await data(scope, receive, send)
            else:
                await app(scope, receive, send)

        return front


def _spill(settings: ApiSettings, name: str) -> EventSpill | None:
    if settings.spill_folder is None:
        return None
    return EventSpill(settings.spill_folder / f"{name}.events", settings.spill_bytes_max)
