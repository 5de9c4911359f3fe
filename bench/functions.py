"""`make bench-functions`: what a custom API costs, and a hook before a call.

An installation of its own is started, without an example. Each call's run record, its emission and
its event are on Kafka in one transaction before it is answered, so what is measured is what a
caller sees. SECONDS says how long each is asked. docs/benchmarks.md holds one run of it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

import psycopg

from bench.http_load import Asking, measure
from tests.conftest import free_port_base
from tests.integration.live_installation import LiveInstallation

SECONDS = float(os.environ.get("SECONDS", "5"))
CLIENTS = (1, 16, 64)
API = """
    # /// rowcast
    # api = "bench_{name}"
    # reuse = {reuse}
    # ///
    async def main(request, g):
        {body}return {{"n": request["body"]["n"]}}
"""
EMIT = 'await g.emit("custom.bench", request["body"])\n        '
HOOK = """
    # /// rowcast
    # before = "api.data.shop.bench_hooked.created"
    # reuse = true
    # ///
    def main(call, g):
        return None
"""
FUNCTIONS = {
    "pristine": ("false", ""),
    "warm": ("true", ""),
    "warm, emits": ("true", EMIT),
}


def _post(path: str) -> Asking:
    return lambda: (f"POST {path}", b'{"n": 1}')


def main() -> None:
    """Start the installation, then ask each API with more and more clients."""
    with tempfile.TemporaryDirectory(prefix="rowcast-bench-") as name:
        installation = LiveInstallation(Path(name) / "bench", free_port_base())
        installation.start()
        try:
            asked = _prepare(installation)
            token = installation.token("--role", "service_role")
            print(f"{'':34}{'clients':>8}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
            for title, asking in asked.items():
                for clients in CLIENTS:
                    port = installation.port_base
                    asyncio.run(measure(port, asking, token, SECONDS / 5, clients))
                    found = asyncio.run(measure(port, asking, token, SECONDS, clients))
                    print(
                        f"{title if clients == CLIENTS[0] else '':34}{clients:>8}"
                        f"{found.rate:>12,.0f}{found.p50_ms:>9.1f}{found.p99_ms:>9.1f}"
                    )
        finally:
            installation.stop()


def _prepare(installation: LiveInstallation) -> dict[str, Asking]:
    with psycopg.connect(installation.status().sources["shop"].dsn, autocommit=True) as connection:
        for table in ("bench_plain", "bench_hooked"):
            connection.execute(f"create table {table} (id serial primary key, n int)".encode())
    asked: dict[str, Asking] = {}
    for number, (title, (reuse, body)) in enumerate(FUNCTIONS.items()):
        installation.apply(f"bench_{number}", API.format(name=number, reuse=reuse, body=body))
        asked[f"custom API, {title}"] = _post(f"/functions/v1/bench_{number}")
    installation.apply("bench_hook", HOOK)
    asked["insert without a hook"] = _post("/rest/v1/bench_plain")
    asked["insert with a warm hook"] = _post("/rest/v1/bench_hooked")
    time.sleep(2)  # the definitions are in force, the sandbox is started
    return asked


if __name__ == "__main__":
    main()
