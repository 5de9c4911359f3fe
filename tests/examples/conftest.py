"""The examples as they stand in examples/, all loaded into one installation of the tests' own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString

import httpx
import psycopg
import pytest

from events.json_codec import JsonObject, decode_object
from events.token import make_token
from rowcast.example_files import EXAMPLES
from rowcast.installation import open_installation
from rowcast.kafka_access import read_topic
from rowcast.new_configuration import new_configuration
from tests.integration.live_installation import LiveInstallation, wait_until
from tests.port_base import free_port_base

NAMES = (
    *("user-onboarding", "order-updates", "cache-invalidation"),
    *("live-chat", "third-party"),
)
BY_TEST = ("mail", "analytics")
"""Servers that are away until a test starts them."""


class Scenarios(LiveInstallation):
    """The running installation, and what its users do."""

    def prepare(self) -> None:
        """Write rowcast.toml as `rowcast up --example` does, less the servers that tests start."""
        self.folder.mkdir()
        lines = new_configuration(self.port_base, NAMES).splitlines()
        left = [line for line in lines if not line.startswith(tuple(f"{one} =" for one in BY_TEST))]
        (self.folder / "rowcast.toml").write_text("\n".join(left))

    def token(self, *arguments: str) -> str:
        """A token of a subject, the tests' own where none is named."""
        secret = open_installation(self.folder).jwt_secret
        (subject,) = arguments or ("tests",)
        return make_token(secret, "authenticated", subject, 600, now=time.time())

    def runs(self, listener: str) -> list[JsonObject]:
        """All records of a listener's runs, as `rowcast runs` reads them, without its start."""
        cluster = open_installation(self.folder).cluster
        records = asyncio.run(read_topic(cluster, cluster.topics.runs))
        found = [decode_object(record.value or b"") for record in records]
        return [run for run in found if run["listener"] == listener]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port_base}"

    def rows(self, query: LiteralString, *values: object) -> list[tuple[object, ...]]:
        """What a statement gives, in the database of the source `shop`."""
        with psycopg.connect(self.status().sources["shop"].dsn, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def wait_for_rows(self, expected: object, query: LiteralString, *values: object) -> None:
        """Wait until a query gives just these rows."""

        def look() -> bool | None:
            return self.rows(query, *values) == expected or None

        wait_until(look, f"{expected} of {query}; found {self.rows(query, *values)}")

    def kill_router(self) -> None:
        """Kill it as nothing can be caught; the supervisor starts it again."""
        pid = self.status().services["router"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def call(self, method: str, path: str, body: object = None, token: str = "") -> httpx.Response:
        """A call of an API."""
        headers = {"apikey": token} if token else {}
        return httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)

    @contextmanager
    def server(self, file: str, offset: int, *arguments: str) -> Generator[None]:
        """One of an example's small servers; what it prints is where `rowcast up` has it."""
        name = Path(file).stem.removesuffix("_server")
        command = (sys.executable, str(EXAMPLES / file), str(self.port_base + offset), *arguments)
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="package")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    installation = Scenarios(tmp_path_factory.mktemp("scenarios") / "all", free_port_base())
    installation.prepare()
    installation.start()
    yield installation
    installation.stop()
