"""Known ways out of a JavaScript realm, taken as if Python had broken through: each ends denied.

The second wall: a realm scrubbed of Deno in a process without permissions; the third: that process
itself, tried before the realm is scrubbed. The hostile code is put into main.mjs of a copy of the
image and run by the real command line. What it imports is named at runtime, since Deno loads at
the start what it finds named in a program's text.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from infra import artifacts
from listener_runtime.sandbox_command import ENVIRONMENT, sandbox_command

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

REPORT = """
const attempt = async () => { %s };
let said;
try { said = `escaped: ${await attempt()}`; }
catch (error) { said = `denied: ${error?.name}: ${error?.message}`; }
report(said);
"""

GONE = (
    "Deno",
    "fetch",
    "Worker",
    "WebSocket",
    "EventSource",
    "navigator",
    "localStorage",
    "caches",
    "crypto",
    "BroadcastChannel",
    "SharedArrayBuffer",
    "Atomics",
    "process",
    "require",
    "Blob",
    "URL",
    "load",
    "read",
    "readbuffer",
    "__bootstrap",
    "setInterval",
    "structuredClone",
    "reportError",
    "prompt",
)

SCRUBBED = {
    "eval": "return eval('1')",
    "Function": "return Function('return 1')()",
    "constructor of a constructor": "return [].constructor.constructor('return this')()",
    "constructor of an async function": ("return (async () => {}).constructor('return 1')()"),
    "constructor of a generator": "return (function* () {}).constructor('yield 1')().next().value",
    "import of a node module": "return (await import('node:fs')).readFileSync('/etc/passwd')",
    "import of a node module's process": "return (await import('node:process')).env.PATH ?? x",
    "import over the network": "return await import('http://127.0.0.1:1/x.mjs')",
    "import of a file": "return await import(['file:///etc', 'passwd'].join('/'))",
    "import of a file as text": (
        "return (await import(['file:///etc', 'passwd'].join('/'), { with: { type: 'text' } }))"
        ".default"
    ),
    "import from a package registry": "return await import('npm:left-pad')",
    "writing to another process": "return (await import('node:process')).kill(1, 0)",
    "running a program": ("return (await import('node:child_process')).execFileSync('/bin/true')"),
    "listening": (
        "const net = await import('node:net');"
        "return await new Promise((ok, no) => net.createServer().on('error', no).listen(0, ok))"
    ),
    "looking up a name": "return await (await import('node:dns/promises')).lookup('localhost')",
    "the inspector": "return (await import('node:inspector')).open(0)",
    "native code": "return process.dlopen({exports: {}}, '/lib/x86_64-linux-gnu/libc.so.6')",
    "a database in a file": (
        "const { DatabaseSync } = await import('node:sqlite'); return new DatabaseSync('/tmp/x.db')"
    ),
}

WITH_DENO = {
    "reading": "return Deno.readTextFileSync('/etc/passwd')",
    "reading the program itself": "return Deno.readTextFileSync(import.meta.filename)",
    "writing": "return Deno.writeTextFileSync('/tmp/escaped', 'x')",
    "the environment": "return Deno.env.get('PATH') ?? Deno.env.get('HOME')",
    "running": "return new Deno.Command('/bin/true').outputSync().code",
    "connecting": "return await Deno.connect({ hostname: '127.0.0.1', port: 1 })",
    "listening": "return Deno.listen({ port: 0 }).addr.port",
    "fetching": "return await fetch('http://127.0.0.1:1/')",
    "fetching a file": "return await (await fetch('file:///etc/passwd')).text()",
    "a foreign function": "return Deno.dlopen('/lib/x86_64-linux-gnu/libc.so.6', {})",
    "the system": "return Deno.hostname()",
    "asking for more": (
        "const { state } = await Deno.permissions.request({ name: 'read' });"
        "if (state !== 'granted') throw new Error(state); return state"
    ),
    "signalling others": "return Deno.kill(1, 'SIGCONT')",
    "local storage": "localStorage.setItem('a', 'b'); return localStorage.getItem('a')",
    "caches": "return await caches.open('a')",
    "import of a file as bytes": (
        "return (await import(['file:///etc', 'passwd'].join('/'), { with: { type: 'bytes' } }))"
        ".default.length"
    ),
    "a worker that reads": (
        "const code = `postMessage(Deno.readTextFileSync('/etc/passwd'))`;"
        "const worker = new Worker(`data:application/javascript,${code}`, { type: 'module' });"
        "return await new Promise((ok, no) => {"
        " worker.onmessage = (event) => ok(event.data);"
        " worker.onerror = (event) => { event.preventDefault(); no(new Error(event.message)); };"
        "})"
    ),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the image, to put hostile programs into."""
    copy = tmp_path_factory.mktemp("hostile") / "image"
    shutil.copytree(artifacts.sandbox_image(), copy)
    return copy


async def said_by(image: Path, attempt: str, *, scrubbed: bool) -> str:
    """What a module of hostile code reports, run as a part of main.mjs."""
    program = (image / "main.mjs").read_text()
    assert program.count("scrubRealm();") == 1
    hostile = REPORT % attempt
    placed = f"scrubRealm();\n{hostile}" if scrubbed else hostile
    report = "const report = (text) => send(`X${text}`);\n"
    main = image / "hostile.mjs"
    main.write_text(program.replace("scrubRealm();", report + placed))
    process = await asyncio.create_subprocess_exec(
        *sandbox_command(artifacts.deno(), main, 256),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(ENVIRONMENT),
        cwd="/",
    )
    assert process.stdin is not None
    process.stdin.close()
    out, err = await process.communicate()
    length = int.from_bytes(out[:4], "little")
    assert out[4:5] == b"X", err.decode()
    return out[5 : 4 + length].decode()


@pytest.mark.parametrize("route", SCRUBBED)
async def test_the_route_is_denied_in_the_scrubbed_realm(image: Path, route: str) -> None:
    said = await said_by(image, SCRUBBED[route], scrubbed=True)
    assert said.startswith("denied: "), said
    assert "SyntaxError" not in said


@pytest.mark.parametrize("route", WITH_DENO)
async def test_the_route_is_denied_to_who_has_deno_itself(image: Path, route: str) -> None:
    said = await said_by(image, WITH_DENO[route], scrubbed=False)
    assert said.startswith("denied: "), said
    assert "SyntaxError" not in said
    assert "is not defined" not in said


async def test_nothing_of_the_host_is_left_in_the_scrubbed_realm(image: Path) -> None:
    names = ", ".join(f"'{name}'" for name in GONE)
    attempt = f"return [{names}].filter((name) => name in globalThis)"
    assert await said_by(image, attempt, scrubbed=True) == "escaped: "


async def test_code_that_is_not_denied_is_seen_to_escape(image: Path) -> None:
    assert await said_by(image, "return 1 + 1", scrubbed=True) == "escaped: 2"
