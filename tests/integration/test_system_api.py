"""The system API and the command line that is built on it, on a running installation."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result

from cdc.topic_creation import ensure_own_topics
from events.json_codec import JsonObject, encode
from events.token import make_token
from infra.embedded.postgres import EmbeddedPostgres
from router.schedule import ScheduledEvent
from rowcast.command_line import main
from rowcast.installation import Installation, open_installation
from rowcast.kafka_access import Record, read_topic, write_records
from tests.integration.live_installation import (
    LIMIT_S,
    LiveInstallation,
    json_lines,
    next_message,
    wait_until,
)
from tests.port_base import free_ports

pytestmark = pytest.mark.integration

FLAKY = """
    # /// rowcast
    # on = "custom.flaky"
    # retry = { attempts = 0 }
    # ///
    async def main(event, g):
        if not await g.kv.get("mended"):
            raise ValueError("not yet")
        await g.emit("custom.flaky_done", event["data"])
"""
MEND = """
    # /// rowcast
    # on = "custom.flaky"
    # retry = { attempts = 0 }
    # ///
    async def main(event, g):
        await g.emit("custom.flaky_done", event["data"])
"""


@pytest.fixture(scope="module")
def service(live: LiveInstallation) -> Iterator[httpx.Client]:
    token = live.token("--role", "service_role", "--subject", "tester")
    with httpx.Client(
        base_url=f"http://127.0.0.1:{live.port_base}/admin/v1",
        headers={"Authorization": f"Bearer {token}"},
        timeout=LIMIT_S,
    ) as client:
        yield client


def rowcast(
    *arguments: str, check: bool = True, environment: Mapping[str, str] | None = None
) -> Result:
    """Run a command in this process, which starts faster than one of its own."""
    done = CliRunner().invoke(main, arguments, env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert not check or done.exit_code == 0, done.output
    return done


def command(live: LiveInstallation, *arguments: str, check: bool = True) -> Result:
    """The same on this installation."""
    return rowcast(*arguments, "--dir", str(live.folder), check=check)


def lines(live: LiveInstallation, *arguments: str) -> list[JsonObject]:
    """What a command prints, a JSON object a line."""
    said = rowcast(*arguments, "--json", "--dir", str(live.folder)).stdout
    return json_lines(said)


def call_of(live: LiveInstallation, operation: str, outcome: str = "ok") -> JsonObject:
    """The event of a call of an operation by the tester."""
    (found,) = live.wait_for_events(
        lambda event: (
            event.type == f"api.system.{operation}"
            and event.body["outcome"] == outcome
            and "tester" in str(event.body["caller"])
        )
    )
    return found.body


def test_only_service_role_is_served_and_errors_say_what_was_expected(
    live: LiveInstallation, service: httpx.Client
) -> None:
    assert service.get("/").json()["openapi"] == "3.1.0"
    url = f"{service.base_url}runs"
    nobody = httpx.get(url)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "42501")
    somebody = httpx.get(url, headers={"apikey": live.token()})
    assert (somebody.status_code, somebody.json()["code"]) == (403, "42501")
    forged = make_token("x" * 40, "service_role", "eve", 60, now=time.time())
    assert httpx.get(url, headers={"apikey": forged}).status_code == 401
    for path, status, said in (
        ("/nothing", 404, "There is nothing"),
        ("/runs?count=many", 400, "$.count"),
        ("/runs?fancy=1", 400, "fancy"),
        ("/definitions/nobody", 404, "expected one of those applied"),
        ("/sources/nowhere/audit", 404, "expected one of [sources]"),
    ):
        refused = service.get(path)
        assert refused.status_code == status, path
        assert said in refused.json()["message"]
        assert set(refused.json()) == {"code", "message", "details", "hint"}
    assert service.patch("/runs").headers["allow"] == "GET"
    assert service.post("/definitions", content=b"{").json()["code"] == "PGRST102"


def test_a_definition_is_applied_read_changed_and_deleted_and_each_call_is_an_event(
    live: LiveInstallation, service: httpx.Client
) -> None:
    code = "# /// rowcast\n# on = 'custom.quiet'\n# ///\nasync def main(event, g): pass\n"
    applied = service.post("/definitions", json={"files": [{"path": "quiet.py", "text": code}]})
    assert [one["version"] for one in applied.json()] == [1]
    found = service.get("/definitions/quiet").json()["definition"]
    # As it is read it may be written: only what is changed makes a version.
    assert service.put("/definitions/quiet", json={"definition": found}).json()["version"] == 1
    changed = service.put("/definitions/quiet", json={"definition": {**found, "enabled": False}})
    assert (changed.json()["version"], changed.json()["enabled"]) == (2, False)
    for definition, said in (
        ({**found, "timeout": 3}, "timeout_s"),
        ({**found, "name": "loud"}, "expected the same"),
        ({**found, "action": {"do": "code", "code": "def man(): pass"}}, "no function main"),
    ):
        refused = service.put("/definitions/quiet", json={"definition": definition})
        assert refused.status_code == 400
        assert said in refused.json()["message"]
    assert "off custom.quiet" in command(live, "get").stdout
    assert service.delete("/definitions/quiet").json() == {"name": "quiet"}
    assert service.delete("/definitions/quiet").status_code == 404
    call = call_of(live, "put_definition")
    assert call["name"] == "quiet"
    assert call["caller"] == {
        "role": "service_role",
        "subject": "tester",
        "address": "127.0.0.1",
    }


def test_secrets_and_passwords_are_neither_in_answers_nor_in_events(
    live: LiveInstallation, service: httpx.Client
) -> None:
    made = service.post("/tokens", json={"subject": "ada", "claims": {"pin": "hidden-claim"}})
    token = made.json()["token"]
    assert made.status_code == 201
    url = f"http://127.0.0.1:{live.port_base}/rest/v1/users?limit=1"
    assert httpx.get(url, headers={"apikey": token}).status_code == 200
    call = call_of(live, "make_token")
    assert call["parameters"] == {"subject": "ada"}
    password = live.status().sources["shop"].dsn.split(":")[2].split("@")[0]
    for path in ("/status", "/sources"):
        assert password not in service.get(path).text
        assert ":***@" in service.get(path).text
    assert service.get("/runs", params={"token": token}).status_code == 400
    (refused,) = live.wait_for_events(
        lambda event: event.type == "api.system.list_runs" and "`token`" in str(event.body["error"])
    )
    assert token not in str(refused.body)


def test_dead_letters_are_replayed_and_dropped_and_a_range_is_replayed(
    live: LiveInstallation,
) -> None:
    live.apply("flaky", FLAKY)
    sent = [live.emit("custom.flaky", {"n": n}) for n in range(3)]
    live.wait_for_runs("flaky", 3)
    letters = lines(live, "dead", "--listener", "flaky")
    ids = [str(letter["id"]) for letter in letters]
    assert len(ids) == 3
    # Not mended: it dies again, and is open again.
    command(live, "dead", "replay", ids[0])
    live.wait_for_runs("flaky", 4)

    def open_letters() -> set[str]:
        return {str(one["id"]) for one in lines(live, "dead", "--listener", "flaky")}

    wait_until(lambda: open_letters() == set(ids) or None, "the letter that died again")
    live.apply("flaky", MEND)
    command(live, "dead", "replay", ids[0])
    command(live, "dead", "drop", ids[1])
    command(live, "dead", "replay", "--listener", "flaky")
    runs = live.wait_for_runs("flaky", 6)
    assert [run["status"] for run in runs] == [*["failed"] * 4, "ok", "ok"]
    assert command(live, "dead", "--listener", "flaky").stdout == "no dead letters\n"
    assert "flaky" in command(live, "dead", "show", ids[2]).stdout
    unknown = command(live, "dead", "replay", "run_0", check=False)
    assert (unknown.exit_code, "expected one of those" in unknown.stderr) == (2, True)

    said = command(live, "replay", "flaky", "--since", "1h", "--dry-run").stdout
    assert said == "3 events would be given to flaky\n"
    command(live, "replay", "flaky", "--since", "1h", "--limit", "2")
    command(live, "replay", "flaky", "--event", sent[1])
    replayed = live.wait_for_runs("flaky", 9)[6:]
    assert [run["status"] for run in replayed] == ["ok"] * 3
    # A replay has the ids of a retry: whoever saw an event before knows it again.
    done = live.wait_for_events(lambda event: event.type == "custom.flaky_done", 5)
    assert len({event.id for event in done}) == 3
    command(live, "delete", "flaky")
    gone = command(live, "replay", "flaky", "--since", "1h", check=False)
    assert "expected one of those applied" in gone.stderr


def test_a_schedule_is_cancelled_whether_it_has_a_name_or_not(live: LiveInstallation) -> None:
    live.apply(
        "sleeper",
        """
        # /// rowcast
        # on = "custom.sleep"
        # ///
        async def main(event, g):
            await g.schedule.after("1h", "custom.sleep_once")
            await g.schedule.every("2h", "sleep_again")
        """,
    )
    live.emit("custom.sleep", {})
    (run,) = live.wait_for_runs("sleeper")
    assert run["status"] == "ok", run["error"]
    live.apply("nightly", "# /// rowcast\n# every = '1d'\n# ///\ndef main(event, g): pass\n")

    def pending() -> dict[str, str] | None:
        found = {str(one["type"]): str(one["id"]) for one in lines(live, "schedules")}
        return found if {"schedule.sleep_again", "schedule.nightly"} <= set(found) else None

    found = wait_until(pending, "schedules")
    for event_type in ("custom.sleep_once", "schedule.sleep_again"):
        command(live, "schedules", "cancel", found[event_type])
    left = command(live, "schedules").stdout
    assert "sleep_" not in left
    refused = command(live, "schedules", "cancel", found["schedule.nightly"], check=False)
    assert "rowcast delete nightly" in refused.stderr
    command(live, "delete", "nightly", "sleeper")


def test_registrations_are_seen_and_ended_and_their_client_is_told(live: LiveInstallation) -> None:
    wanted = {"pattern": "custom.watched", "filter": {"n": 1}}
    with live.websocket(wanted) as client:

        def watched() -> JsonObject | None:
            found = [
                one for one in lines(live, "subscriptions") if one["pattern"] == "custom.watched"
            ]
            return found[0] if found else None

        found = wait_until(watched, "the registration")
        assert (found["subject"], found["role"]) == ("developer", "authenticated")
        assert found["conditions"] == {"row.n": [1]}
        command(live, "subscriptions", "end", str(found["id"]))
        told = next_message(client)
        assert (told["op"], told["ref"], told["id"]) == ("unregistered", None, 1)
        assert watched() is None
        again = command(live, "subscriptions", "end", str(found["id"]), check=False)
        assert again.exit_code == 2


def test_the_same_commands_reach_an_installation_elsewhere(
    live: LiveInstallation, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{live.port_base}/"

    token = live.token("--role", "service_role")
    there = {"ROWCAST_URL": url, "ROWCAST_TOKEN": token}
    emitted = rowcast("emit", "custom.from_afar", '{"n": 1}', environment=there)
    assert emitted.stdout.startswith("ev_")
    rowcast("status", "--url", url, "--token", token)
    assert "order_paid" in rowcast("get", environment=there).stdout
    assert rowcast("token", environment=there).stdout.count(".") == 2
    for arguments, environment, said in (
        (("runs", "--url", url), {}, "--token or ROWCAST_TOKEN"),
        (("runs", "--url", url, "--token", live.token()), {}, "expected service_role"),
        (("runs", "--url", "http://127.0.0.1:9", "--token", "x"), {}, "was not reached"),
        (("runs", "--url", url, "--dir", "x"), there, "expected one of them"),
        # A folder that is named goes before the environment.
        (("runs", "--dir", str(tmp_path)), there, "rowcast up"),
    ):
        refused = rowcast(*arguments, check=False, environment=environment)
        assert refused.exit_code == 2, arguments
        assert said in refused.stderr


@pytest.fixture
def alone(
    tmp_path: Path, kafka_bootstrap: str, postgres: EmbeddedPostgres
) -> Iterator[Installation]:
    """An HTTP service of its own, which may be deleted from: topics and a database of its own."""
    (port,) = free_ports(1)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("create database fuzzed")
    (tmp_path / "rowcast.toml").write_text(
        f"port_base = {port}\n[kafka]\nbootstrap = '{kafka_bootstrap}'\nprefix = 'fuzzed'\n"
        f"partitions = 1\n[sources.mine]\nkind = 'postgres'\ndsn = '{postgres.dsn('fuzzed')}'\n"
    )
    installation = open_installation(tmp_path)
    asyncio.run(ensure_own_topics(installation.cluster))
    with (tmp_path / "http.log").open("wb") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "rowcast", "run", "http", "--dir", str(tmp_path)),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:

        def answers() -> bool | None:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{installation.http_url}/healthz").is_success
            return None

        wait_until(answers, "the HTTP service")
        yield installation
    finally:
        process.terminate()
        process.wait(LIMIT_S)
        with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
            connection.execute("drop database fuzzed with (force)")


def test_whatever_schemathesis_makes_of_the_description_is_no_error_of_ours(
    alone: Installation,
) -> None:
    topics = alone.cluster.topics
    code = "# /// rowcast\n# on = 'custom.x'\n# ///\nasync def main(event, g): pass\n"
    token = make_token(alone.jwt_secret, "service_role", "fuzz", 3_600, now=time.time())
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{alone.http_url}/admin/v1/"
    files = [{"path": f"{name}.py", "text": code} for name in ("one", "two", "three")]
    httpx.post(f"{url}definitions", json={"files": files}, headers=headers).raise_for_status()
    letter: JsonObject = {
        "id": "run_1",
        "listener": "one",
        "event": {"id": "ev_1", "type": "custom.x", "data": None},
    }
    pending = ScheduledEvent(
        id="later",
        type="custom.y",
        due_ms=9_999_999_999_999,
        tenant="default",
        cause="ev_1",
        listener="one",
        root="ev_1",
        path=("one",),
    )
    records = [
        Record(topics.dead, encode({"listener": "one"}), encode(letter)),
        Record(topics.schedules, pending.record_key, pending.encode()),
    ]
    asyncio.run(write_records(alone.cluster, records))
    done = subprocess.run(
        (
            *(Path(sys.executable).parent / "schemathesis", "run", url),
            *("-H", f"Authorization: Bearer {token}"),
            *("--checks", "not_a_server_error", "--phases", "fuzzing", "--no-color"),
            # Each of its calls starts a sandbox.
            *("--exclude-operation-id", "doctor"),
            *("--max-examples", os.environ.get("FUZZ_EXAMPLES", "5")),
        ),
        capture_output=True,
        text=True,
        check=False,
        timeout=3_600,
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr
    # The calls were told of, and what Kafka holds can still be read.
    assert asyncio.run(read_topic(alone.cluster, topics.api))
    assert httpx.get(f"{url}dead-letters?state=any", headers=headers).status_code == 200
