"""Keeps Kafka's classes as Java has them in memory, which takes two thirds off a broker's start.

python -m infra.embedded.kafka_archive JARS, as `make install` does: starts a broker in a folder of
its own, waits until it answers and lets Java write what it has loaded when it ends (class data
sharing, https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html). Where that fails,
or Java is another later on, brokers start as before, only slower.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.embedded.kafka import EmbeddedKafka, class_archive

_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 30.0
_POLL_S = 0.2


def main() -> None:
    """Write the archive beside the jars; says so and ends well where it cannot."""
    archive = class_archive(Path(sys.argv[1]).resolve())
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="rowcast-kafka-") as name:
        folder = Path(name)
        port, controller = _free_ports()
        kafka = EmbeddedKafka(folder / "kafka", port, controller, folder / "kafka.log")
        kafka.prepare()
        environment = {**os.environ, "JAVA_TOOL_OPTIONS": f"-XX:ArchiveClassesAtExit={archive}"}
        with (folder / "kafka.log").open("wb") as log:
            broker = subprocess.Popen(kafka.process().argv, env=environment, stdout=log, stderr=log)
            asyncio.run(_answers(kafka))
            broker.terminate()
            try:
                broker.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()
    if not archive.exists():
        sys.stderr.write("Java wrote no class archive: the embedded Kafka starts more slowly\n")


async def _answers(kafka: EmbeddedKafka) -> None:
    try:
        async with asyncio.timeout(_START_LIMIT_S):
            while not await kafka.answers():
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        pass


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])


if __name__ == "__main__":
    main()
