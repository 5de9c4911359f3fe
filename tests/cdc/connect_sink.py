"""Kafka Connect standalone with the stock Debezium JDBC sink, as a user would set it up."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from infra import artifacts
from tests.port_base import free_ports

_WORKER = """\
bootstrap.servers={bootstrap}
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
offset.storage.file.filename={folder}/connect.offsets
offset.flush.interval.ms=1000
listeners=http://127.0.0.1:{port}
consumer.isolation.level=read_committed
consumer.auto.offset.reset=earliest
consumer.metadata.max.age.ms=1000
"""
_SINK = """\
name=replica
connector.class=io.debezium.connector.jdbc.JdbcSinkConnector
tasks.max=1
topics.regex={source}\\\\.public\\\\..*
connection.url=jdbc:postgresql://127.0.0.1:{pg_port}/{database}?stringtype=unspecified
connection.username={user}
connection.password={password}
insert.mode=upsert
delete.enabled=true
truncate.enabled=true
primary.key.mode=record_key
schema.evolution=basic
collection.name.format=replica.${{source.table}}
"""


@contextmanager
def jdbc_sink(folder: Path, bootstrap: str, source: str, dsn: str) -> Generator[Path]:
    """The sink into the schema `replica` of a database, until the end; gives its log."""
    jars = artifacts.build_directory() / "jdbc-sink"
    if not jars.exists():
        pytest.fail(f"the JDBC sink is not at {jars}; make test installs it")
    folder.mkdir()
    address = conninfo_to_dict(dsn)
    (port,) = free_ports(1)
    worker, sink, log = folder / "worker.properties", folder / "sink.properties", folder / "log"
    worker.write_text(_WORKER.format(bootstrap=bootstrap, folder=folder, port=port))
    sink.write_text(
        _SINK.format(
            source=source,
            pg_port=address["port"],
            database=address["dbname"],
            user=address["user"],
            password=address["password"],
        )
    )
    command = [
        *(str(artifacts.java()), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"),
        *("org.apache.kafka.connect.cli.ConnectStandalone", str(worker), str(sink)),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        yield log
    finally:
        process.terminate()
        process.wait()
