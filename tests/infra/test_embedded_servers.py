from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import MongoClient

from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.server import check_port_free
from infra.errors import ServerStartError
from infra.process import LAUNCHER


@pytest.mark.integration
def test_postgres_decodes_logically_and_keeps_root_out(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.dsn("shop")) as connection:
        row = connection.execute("show wal_level").fetchone()
        assert row == ("logical",)
    with psycopg.connect(postgres.listener_dsn("shop")) as connection:
        row = connection.execute(
            "select rolsuper, rolreplication from pg_roles where rolname = current_user"
        ).fetchone()
        assert row == (False, False)


@pytest.mark.integration
def test_a_database_is_made_in_a_folder_that_anyone_may_enter() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedPostgres(folder / "postgres", 1, folder / "log", "owner", "listener")
        server.prepare()
        assert (folder / "postgres" / "PG_VERSION").exists()
        assert [path.name for path in folder.iterdir()] == ["postgres"]


@pytest.mark.integration
def test_mongo_is_a_replica_set_of_one(mongo_uri: str) -> None:
    with MongoClient[dict[str, object]](mongo_uri) as client:
        hello = client.admin.command("hello")
    assert hello["setName"] == "rowcast"
    assert hello["isWritablePrimary"] is True


@pytest.mark.integration
def test_kafkas_storage_is_formatted_though_its_id_begins_with_a_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=b"\xf8" * 16))
    server = EmbeddedKafka(tmp_path / "kafka", 1, 2, tmp_path / "kafka.log")
    server.prepare()
    assert "cluster.id=-" in (tmp_path / "kafka" / "data" / "meta.properties").read_text()


@pytest.mark.integration
def test_kafkas_classes_come_from_their_archive(tmp_path: Path) -> None:
    java, *options, _, _ = EmbeddedKafka(tmp_path, 1, 2, tmp_path / "kafka.log").process().argv
    # Java starts at all only if it can use the archive, and says what comes out of it.
    shown = subprocess.run(
        (java, "-Xshare:on", *options, "-Xlog:class+load", "kafka.tools.StorageTool", "--help"),
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert re.search(r"org\.apache\.kafka\.\S+ source: shared objects file \(top\)", shown)


def test_a_taken_port_is_named_with_the_mend() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=f"port {port} .* kafka.*--port-base"):
            check_port_free("kafka", port)


def test_a_launched_program_dies_with_its_parent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os,time; open({str(pid_file)!r},'w').write(str(os.getpid())); time.sleep(600)"
    parent = (
        "import os,subprocess,sys,time;"
        f"subprocess.Popen([sys.executable,'-I','-S',{str(LAUNCHER)!r},str(os.getpid()),'9',"
        f"sys.executable,'-c',{child!r}]); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.01)
    child_pid = int(pid_file.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while _runs(child_pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(child_pid)


def test_a_program_whose_parent_is_gone_is_not_started() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER), "1", "9", "echo", "started"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    assert done.returncode != 0


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.integration
def test_kafka_answers_and_makes_no_topics_unasked(kafka_bootstrap: str) -> None:
    async def topics() -> list[str]:
        client = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
        await client.start()
        try:
            return await client.list_topics()
        finally:
            await client.close()

    assert "surely-missing" not in asyncio.run(topics())
