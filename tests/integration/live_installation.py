"""A `rowcast up` of the tests' own, used as a user would: by commands, stock clients, Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import psutil
import psycopg
from websockets.sync.client import ClientConnection, connect

from events.event import Event, decode_event
from events.json_codec import JsonObject, decode_object
from rowcast.installation import open_installation
from rowcast.kafka_access import follow
from rowcast.status import Status, read_status
from tests.integration.invoked_command import invoke, may_be_invoked

_Result = TypeVar("_Result")
READY = "Rowcast is ready"
LIMIT_S = 90.0

Predicate: TypeAlias = "Callable[[Event], bool]"


class LiveInstallation:
    """One `rowcast up` process and its folder."""

    def __init__(self, folder: Path, port_base: int) -> None:
        self.folder = folder
        self.port_base = port_base
        self.process: subprocess.Popen[bytes] | None = None
        self.output = folder.with_suffix(".out")

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.launch()
        self.wait_for_output(READY)

    def launch(self) -> None:
        """Start it; returns at once."""
        command = (sys.executable, "-m", "rowcast", "up", "--dir", str(self.folder))
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                (*command, "--port-base", str(self.port_base)),
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait_for_output(self, text: str) -> str:
        """What it printed, once a text is in it."""

        def printed() -> str | None:
            said = self.output.read_text(errors="replace")
            assert self.process is not None
            if text not in said and self.process.poll() is not None:
                raise AssertionError(f"rowcast up ended before it said {text!r}: {said}")
            return said if text in said else None

        return wait_until(printed, f"{text!r} in the output of rowcast up: {self.output}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal it and wait for its end; returns its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def status(self) -> Status:
        """What status.json says."""
        status = read_status(self.folder / "status.json")
        assert status is not None
        return status

    def family(self) -> list[psutil.Process]:
        """The supervisor's descendants, and theirs."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a rowcast command on this installation."""
        given = (*arguments, "--dir", str(self.folder))
        done = invoke(*given) if may_be_invoked() else _run(*given)
        assert not check or done.returncode == 0, done.stderr + done.stdout
        return done

    def apply(self, name: str, code: str) -> None:
        """Apply a listener from its text."""
        folder = self.folder / "test-listeners"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.py"
        file.write_text(textwrap.dedent(code))
        self.command("apply", str(file))

    def emit(self, event_type: str, data: object) -> str:
        """Emit a custom event; returns its id."""
        return self.command("emit", event_type, json.dumps(data)).stdout.strip()

    def token(self, *arguments: str) -> str:
        """A token for WebSockets."""
        return self.command("token", *arguments).stdout.strip()

    def runs(self, listener: str) -> list[JsonObject]:
        """All records of a listener's runs, oldest first."""
        lines = self.command("runs", "--listener", listener, "--json", "-n", "10000").stdout
        return json_lines(lines)

    def wait_for_runs(self, listener: str, count: int = 1) -> list[JsonObject]:
        """The records of a listener's runs, once there are so many."""
        return wait_until(
            lambda: found if len(found := self.runs(listener)) >= count else None,
            f"{count} runs of {listener}",
        )

    def wait_for_events(self, wanted: Predicate, count: int = 1) -> list[Event]:
        """The first events on Kafka, from its beginning, that are wanted."""
        return asyncio.run(self._wait_for_events(wanted, count))

    async def _wait_for_events(self, wanted: Predicate, count: int) -> list[Event]:
        cluster = open_installation(self.folder, port_base=self.port_base).cluster
        pattern = cluster.topics.pushed_pattern(cluster.sources)
        found: list[Event] = []
        records = follow(cluster, topic_filter=pattern, from_beginning=True)
        async with asyncio.timeout(LIMIT_S), contextlib.aclosing(records):
            async for record in records:
                event = decode_event(record.value or b"", record.headers)
                if wanted(event):
                    found.append(event)
                    if len(found) >= count:
                        break
        return found

    @contextlib.contextmanager
    def without_kafka(self) -> Generator[None]:
        """Kafka's processes stand still meanwhile; afterwards capture has caught up again."""
        kafka = psutil.Process(self.status().services["kafka"].pid)
        stopped = [kafka, *kafka.children(recursive=True)]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)
        mark = uuid.uuid4().hex
        with psycopg.connect(self.status().sources["shop"].dsn, autocommit=True) as connection:
            connection.execute("select rowcast.emit('custom.thawed', to_jsonb(%s::text))", (mark,))
        self.wait_for_events(lambda event: event.body.get("data") == mark)

    @contextlib.contextmanager
    def websocket(self, *registrations: Mapping[str, object]) -> Generator[ClientConnection]:
        """A WebSocket client, registered."""
        url = f"ws://127.0.0.1:{self.port_base}/ws?token={self.token()}"
        with connect(url, open_timeout=LIMIT_S, max_size=None) as client:
            for number, registration in enumerate(registrations):
                message = {"op": "register", "ref": str(number), **registration}
                client.send(json.dumps(message))
                # Events of the registrations before it may come in between.
                while (answer := next_message(client))["op"] == "event":
                    pass
                assert answer["op"] == "registered", answer
            yield client


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "rowcast", *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )


def json_lines(printed: str) -> list[JsonObject]:
    """Objects that were printed one a line; other characters that end lines may stand in them."""
    return [decode_object(line) for line in printed.split("\n") if line]


def next_message(client: ClientConnection) -> JsonObject:
    """The next message of a client."""
    return decode_object(client.recv(timeout=LIMIT_S))


def next_event(client: ClientConnection) -> JsonObject:
    """The next event a client is sent."""
    while True:
        message = next_message(client)
        if message["op"] == "event":
            return cast("JsonObject", message["event"])


def wait_until(look: Callable[[], _Result | None], what: str) -> _Result:
    """What a look finds, asked again and again; fails at the limit."""
    deadline = time.monotonic() + LIMIT_S
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {LIMIT_S:.0f} s in vain for {what}")
        time.sleep(0.05)
    return found
