"""One router as a process of its own: its listener `echo` emits what each change has."""

from __future__ import annotations

import argparse
import asyncio
import signal

from events.cluster import Cluster
from events.json_codec import decode_object
from events.run import Emission, RunOutcome, RunRequest
from events.topic import Topics
from router.router import Router


class Echo:
    """In the sandbox's place: emits the id of the event it is run for."""

    async def run(self, request: RunRequest) -> RunOutcome:
        change = decode_object(request.event)
        emission = Emission("custom.echo", {"change": change["id"]})
        return RunOutcome("ok", 0.1, emissions=(emission,))


async def run(arguments: argparse.Namespace) -> None:
    topics, source = Topics(str(arguments.prefix)), str(arguments.source)
    cluster = Cluster(str(arguments.bootstrap), topics, (source,))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Router(cluster, Echo()).run(stop, lambda: print("ready", flush=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    for argument in ("bootstrap", "prefix", "source"):
        parser.add_argument(argument)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
