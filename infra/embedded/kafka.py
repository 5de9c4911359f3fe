"""Kafka 4.3.1 in KRaft mode, one node that is broker and controller.

Settings are for one machine: replication factor one, no wait before a consumer group's first
rebalance, small internal topics, records up to 16 MiB as capture and router allow them.
"""

from __future__ import annotations

import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra import artifacts
from infra.embedded.server import listens
from infra.errors import ServerStartError
from infra.process import ProcessSpec

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def class_archive(jars: Path) -> Path:
    """Where Kafka's classes are kept as Java has them in memory (`kafka_archive.py`)."""
    return jars / "classes.jsa"


@dataclass(frozen=True, slots=True)
class EmbeddedKafka:
    """One broker; `folder` holds its log, settings and messages.

    `advertised_port` is where it tells clients to connect, where that is not its own port.
    `short_lived` saves Java the work of compiling well what will not run for long.
    """

    folder: Path
    port: int
    controller_port: int
    log: Path
    heap_mb: int = 512
    advertised_port: int = 0
    name: str = "kafka"
    short_lived: bool = False

    @property
    def bootstrap(self) -> str:
        """Its address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports it takes on loopback."""
        return (self.port, self.controller_port)

    def prepare(self) -> None:
        """Write its settings and, the first time, format its storage (about a second)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "server.properties"
        settings.write_text(self._settings())
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        if (self.folder / "data" / "meta.properties").exists():
            return
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = (*self._java(short_lived=True), "kafka.tools.StorageTool", "format")
        done = subprocess.run(
            # One word each: an id that begins with a dash would be taken for an option.
            (*command, f"--cluster-id={cluster_id}", f"--config={settings}"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServerStartError(
                f"Kafka's storage at {self.folder} could not be formatted: "
                f"{(done.stderr or done.stdout).strip()[-800:]}"
            )

    def process(self) -> ProcessSpec:
        """How it is started; it leaves its log consistent on SIGTERM within seconds."""
        argv = (
            *self._java(short_lived=self.short_lived),
            "kafka.Kafka",
            str(self.folder / "server.properties"),
        )
        return ProcessSpec(self.name, argv, self.log, stop_timeout_s=20.0)

    async def answers(self) -> bool:
        """Whether a client can talk to it."""
        if not await listens(self.port):
            return False
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=2_000)
        try:
            await client.start()
            await client.list_topics()
        except (KafkaError, OSError, TimeoutError):
            return False
        finally:
            await client.close()
        return True

    async def initialise(self) -> None:
        """Nothing is left to do; topics are made by those who own them."""

    def _java(self, *, short_lived: bool) -> tuple[str, ...]:
        jars = artifacts.kafka_jars()
        archive = class_archive(jars)
        return (
            str(artifacts.java()),
            f"-Xms{self.heap_mb // 2}m",
            f"-Xmx{self.heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            *(("-XX:TieredStopAtLevel=1",) if short_lived else ()),
            *((f"-XX:SharedArchiveFile={archive}", "-Xlog:disable") if archive.exists() else ()),
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
            "-cp",
            f"{jars}/*",
        )

    def _settings(self) -> str:
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},"
            f"CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.advertised_port or self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 8,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.retention.hours": 168,
            # Longer than any holiday: offsets that are forgotten make old events run again.
            "offsets.retention.minutes": 525_600,
        }
        return "".join(f"{key}={value}\n" for key, value in values.items())
