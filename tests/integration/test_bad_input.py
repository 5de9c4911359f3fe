"""What a user gets wrong is answered with what was found, what was expected and the mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from infra.embedded.mongo import EmbeddedMongo
from infra.embedded.postgres import EmbeddedPostgres
from tests.conftest import running
from tests.integration.live_installation import LiveInstallation, next_message
from tests.port_base import free_ports

pytestmark = pytest.mark.integration


def run_capture(folder: Path, kafka: str, source: str) -> str:
    """What `rowcast run cdc` says as it fails, for one source's settings."""
    folder.mkdir(exist_ok=True)
    file = folder / "rowcast.toml"
    file.write_text(f"[kafka]\nbootstrap = '{kafka}'\n[sources.mine]\n{source}\n")
    done = subprocess.run(
        (sys.executable, "-m", "rowcast", "run", "cdc", "--source", "mine", "--dir", str(folder)),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 2, done.stderr
    said = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    return said[-1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("owner-secret", "wrong"), "password"),
        (("/shop", "/nowhere"), "nowhere"),
        (("127.0.0.1", "surely-missing.invalid"), "surely-missing.invalid"),
    ],
)
def test_a_wrong_dsn_is_named(
    tmp_path: Path,
    kafka_bootstrap: str,
    postgres_dsn: str,
    change: tuple[str, str],
    expected: str,
) -> None:
    dsn = postgres_dsn.replace(*change)
    said = run_capture(tmp_path, kafka_bootstrap, f"kind = 'postgres'\ndsn = '{dsn}'")
    assert expected in said
    assert "dsn" in said
    assert "owner-secret" not in said


def test_a_database_without_logical_decoding_is_told_the_statement(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    (port,) = free_ports(1)
    server = EmbeddedPostgres(
        tmp_path / "postgres",
        port,
        tmp_path / "postgres.log",
        "owner-secret",
        "listener-secret",
        settings=(("wal_level", "replica"),),
    )
    with running(server):
        source = f"kind = 'postgres'\ndsn = '{server.dsn('postgres')}'"
        said = run_capture(tmp_path / "config", kafka_bootstrap, source)
    assert "wal_level" in said
    assert "alter system set wal_level" in said.lower()


def test_a_role_without_replication_is_told_the_statement(
    tmp_path: Path, kafka_bootstrap: str, postgres: EmbeddedPostgres
) -> None:
    with psycopg.connect(postgres.dsn("shop"), autocommit=True) as connection:
        connection.execute("drop role if exists powerless")
        connection.execute("create role powerless login password 'x'")
    dsn = f"postgresql://powerless:x@127.0.0.1:{postgres.port}/shop"
    said = run_capture(tmp_path, kafka_bootstrap, f"kind = 'postgres'\ndsn = '{dsn}'")
    assert "alter role" in said.lower()
    assert "replication" in said.lower()


def test_a_mongodb_that_is_no_replica_set_is_told_the_command(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    (port,) = free_ports(1)
    server = EmbeddedMongo(tmp_path / "mongo", port, tmp_path / "mongo.log", replica_set=None)
    with running(server):
        source = f"kind = 'mongo'\ndsn = '{server.uri}'"
        said = run_capture(tmp_path / "config", kafka_bootstrap, source)
    assert "replica set" in said
    assert "--replSet" in said


def test_a_kafka_that_is_not_there_is_named(tmp_path: Path, postgres_dsn: str) -> None:
    said = run_capture(tmp_path, "127.0.0.1:9", f"kind = 'postgres'\ndsn = '{postgres_dsn}'")
    assert "127.0.0.1:9" in said
    assert "bootstrap" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("async def main(event, g)\n    pass\n", ("line 4", "SyntaxError")),
        ("async def man(event, g):\n    pass\n", ("main",)),
    ],
)
def test_a_listener_with_a_mistake_in_its_code_is_refused_with_the_line(
    live: LiveInstallation, tmp_path: Path, text: str, expected: tuple[str, ...]
) -> None:
    file = tmp_path / "broken.py"
    file.write_text("# /// rowcast\n# on = 'custom.x'\n# ///\n" + text)
    done = live.command("apply", str(file), check=False)
    assert done.returncode == 2
    assert "broken.py" in done.stderr
    assert any(word.lower() in done.stderr.lower() for word in expected)
    assert "Traceback" not in done.stderr


def test_a_listener_with_an_unknown_key_is_told_the_nearest(
    live: LiveInstallation, tmp_path: Path
) -> None:
    file = tmp_path / "unknown.py"
    file.write_text(
        "# /// rowcast\n# on = 'custom.x'\n# timeout = 3\n# ///\ndef main(event, g): pass\n"
    )
    done = live.command("apply", str(file), check=False)
    assert done.returncode == 2
    assert "unknown.py" in done.stderr
    assert "timeout_s" in done.stderr


def test_code_that_only_the_newer_python_of_the_sandbox_can_read_is_accepted(
    live: LiveInstallation, tmp_path: Path
) -> None:
    file = tmp_path / "newer.py"
    file.write_text(
        "# /// rowcast\n# on = 'custom.newer'\n# ///\n"
        "type Pair[T] = tuple[T, T]\n\n\ndef main(event, g):\n    return f'{'nested'}'\n"
    )
    live.command("apply", str(file))
    live.emit("custom.newer", {})
    (run,) = live.wait_for_runs("newer")
    assert run["status"] == "ok"
    live.command("delete", "newer")


@pytest.mark.parametrize("frame", ["{", "[]", '{"op":"regster"}', '{"op":"register"}', "\x00"])
def test_a_malformed_message_is_answered_and_the_connection_stays(
    live: LiveInstallation, frame: str
) -> None:
    with live.websocket() as client:
        client.send(frame)
        answer = next_message(client)
        assert answer["op"] == "error"
        assert "expected" in str(answer["message"])
        client.send(json.dumps({"op": "ping", "ref": "p"}))
        assert next_message(client)["op"] == "pong"


def test_an_expired_token_is_refused_with_the_command_that_makes_a_new_one(
    live: LiveInstallation,
) -> None:
    token = live.token("--expires", "-1s")
    with connect(f"ws://127.0.0.1:{live.port_base}/ws?token={token}") as client:
        message = next_message(client)
        assert message["op"] == "error"
        assert "rowcast token" in str(message["message"])
        with pytest.raises(ConnectionClosed) as closed:
            next_message(client)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("emit", "orders.paid", "{}"), "custom."),
        (("emit", "custom.x", "{"), "expected JSON"),
        (("tail", "db.**.created"), "expected ** only as the last segment"),
        (("get", "nobody"), "expected one of those applied"),
        (("delete", "nobody"), "expected one of those applied"),
        (("apply", "/nowhere.py"), "was not found"),
        (("token", "--expires", "soon"), "expected a number and s, m, h or d"),
    ],
)
def test_a_command_that_means_nothing_says_what_would(
    live: LiveInstallation, arguments: tuple[str, ...], expected: str
) -> None:
    done = live.command(*arguments, check=False)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_without_an_installation_says_how_to_make_one(tmp_path: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "rowcast", "runs", "--dir", str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "rowcast up" in done.stderr
