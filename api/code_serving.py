"""What runs code for calls: custom APIs, and the hooks that all other calls may have."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.routing import BaseRoute

from api.call_commit import CallCommit
from api.call_hook import CallHook
from api.call_hooks import CallHooks
from api.call_journal import CallJournal
from api.caller import CallerReader
from api.code_calls import CodeCalls
from api.code_run import CodeRunner
from api.custom_api import CustomApi
from api.definition_table import DefinitionTable
from api.function_api import PREFIX, FunctionApi
from api.settings import ApiSettings
from api.whole_mount import WholeMount
from events.cluster import Cluster


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """The definitions as they change, who runs their code, and this service among others."""

    table: DefinitionTable
    runner: CodeRunner
    instance: str


class CodeServing:
    """Started before its routes are served, closed after."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ApiSettings,
        code: CodeSettings,
        callers: CallerReader,
        journal: CallJournal,
    ) -> None:
        self._table = code.table
        self._commit = CallCommit(cluster, code.instance)
        calls = CodeCalls(code.runner, self._commit, code.table)
        self.hooks = CallHooks(code.table, calls)
        self._functions = FunctionApi(
            code.table, callers, journal, settings, calls, self.hooks, cluster.topics.api
        )

    async def start(self) -> None:
        """Take over what an older service left open, as soon as there is code to run."""
        self._table.watch(self._begin)

    async def close(self) -> None:
        """End."""
        await self._commit.close()

    def routes(self) -> list[BaseRoute]:
        """What is served."""
        return [WholeMount(PREFIX.rstrip("/"), self._functions)]

    def _begin(self) -> None:
        if self._table.of(CustomApi) or self._table.of(CallHook):
            self._commit.start()
