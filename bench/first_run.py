"""`make bench-first-run`: from a new installation's first event to its listener's run.

Starts `rowcast up` in a folder of its own, applies a listener, then emits events, each as a
producer of the user's own would, and waits for the run's committed record.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from events.event import make_event
from events.json_codec import decode_object
from rowcast.installation import open_installation

READY = "Rowcast is ready"
LIMIT_S = 120
LISTENER = """\
# /// rowcast
# on = "custom.first"
# ///
async def main(event, g):
    return event["data"]
"""


def rowcast(*arguments: str) -> list[str]:
    """The command line of a command."""
    return [sys.executable, "-m", "rowcast", *arguments]


def wait_until_ready(up: subprocess.Popen[bytes], output: Path) -> None:
    """Wait for what `rowcast up` says last."""
    until = time.monotonic() + LIMIT_S
    while READY not in output.read_text(errors="replace"):
        if up.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"rowcast up did not get ready:\n{output.read_text(errors='replace')}")
        time.sleep(0.05)


async def run_ms(folder: Path, count: int) -> list[float]:
    """Milliseconds from sending each event to its run's committed record."""
    cluster = open_installation(folder).cluster
    producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap)
    consumer = AIOKafkaConsumer(
        cluster.topics.runs,
        bootstrap_servers=cluster.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    await producer.start()
    await consumer.start()
    taken: list[float] = []
    try:
        for number in range(count):
            event = make_event(
                event_id=uuid.uuid4().hex, event_type="custom.first", data=number, ts_ms=0, key="k"
            )
            started = time.perf_counter()
            await producer.send_and_wait(cluster.topics.events, event.value, event.key)
            async with asyncio.timeout(LIMIT_S):
                while event.id not in str(await next_run(consumer)):
                    pass
            taken.append((time.perf_counter() - started) * 1_000)
    finally:
        await consumer.stop()
        await producer.stop()
    return taken


async def next_run(consumer: AIOKafkaConsumer) -> object:
    """The next run's event."""
    record = await consumer.getone()
    return decode_object(record.value or b"{}").get("event")


def main() -> None:
    """Measure, and print."""
    port_base = os.environ.get("PORT_BASE", "9800")
    with tempfile.TemporaryDirectory() as temporary:
        folder, output = Path(temporary) / "installation", Path(temporary) / "up.out"
        listener = Path(temporary) / "first.py"
        listener.write_text(LISTENER)
        started = time.perf_counter()
        with output.open("wb") as out:
            up = subprocess.Popen(
                rowcast("up", "--dir", str(folder), "--port-base", port_base),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until_ready(up, output)
            up_s = time.perf_counter() - started
            subprocess.run(
                rowcast("apply", "--dir", str(folder), str(listener)), check=True, stdout=sys.stderr
            )
            first, *later = asyncio.run(run_ms(folder, 21))
        finally:
            up.terminate()
            up.wait()
    sys.stdout.write(
        f"rowcast up, from nothing to ready   {up_s:.1f} s\n"
        f"first run, from its event           {first:.0f} ms\n"
        f"later runs, median of 20            {statistics.median(later):.0f} ms\n"
    )


if __name__ == "__main__":
    main()
