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
    "a session of the inspector": (
        "const session = new (await import('node:inspector')).Session(); session.connect();"
        "return await new Promise((ok, no) => session.post('Runtime.evaluate',"
        " { expression: '1' }, (error, said) => (error ? no(error) : ok(said))))"
    ),
    "Deno in a module of the sandbox": (
        "return typeof (await import(['./prelude', 'mjs'].join('.'))).Deno.kill"
    ),
    "Deno put back": "globalThis.Deno = {}; return typeof (await import('node:process')).pid",
    "Deno put back behind globals": (
        "Object.prototype.Deno = {}; return typeof (await import('node:process')).pid"
    ),
    "Deno put back in front": (
        "Object.setPrototypeOf(globalThis, { Deno: {} }); return typeof Deno"
    ),
    "code from a data module": (
        "return (await import('data:text/javascript,export default eval(`1`)')).default"
    ),
    "Deno in a data module": (
        "return (await import('data:text/javascript,export default Deno.pid')).default"
    ),
    "Deno's own modules": "return await import('ext:core/mod.js')",
    "flags of V8": (
        "(await import('node:v8')).setFlagsFromString("
        "'--no-disallow-code-generation-from-strings');"
        "return [].constructor.constructor('return 1')()"
    ),
    "a picture of the heap": "return (await import('node:v8')).writeHeapSnapshot('/tmp/x.heap')",
    "a context of its own": "return (await import('node:vm')).runInNewContext('1')",
    "a worker of node's": (
        "const { Worker } = await import('node:worker_threads');"
        "return await new Promise((ok, no) => new Worker('data:text/javascript,1')"
        " .on('online', ok).on('error', no))"
    ),
    "a child of a cluster": "return (await import('node:cluster')).default.fork().id",
    "a datagram": (
        "const socket = (await import('node:dgram')).createSocket('udp4');"
        "return await new Promise((ok, no) => socket.on('error', no).bind(0, () => ok('bound')))"
    ),
    "folders through WASI": (
        "const { WASI } = await import('node:wasi');"
        "return typeof new WASI({ version: 'preview1', preopens: { '/': '/' } })"
    ),
    "an extension of a database": (
        "const { DatabaseSync } = await import('node:sqlite');"
        "const database = new DatabaseSync(':memory:', { allowExtension: true });"
        "return database.loadExtension('/lib/x86_64-linux-gnu/libc.so.6') ?? 'loaded'"
    ),
    "a file attached to a database": (
        "const { DatabaseSync } = await import('node:sqlite');"
        "return new DatabaseSync(':memory:').exec(\"attach '/etc/passwd' as stolen\") ?? 'read'"
    ),
    "functions on the stack": (
        "Error.prepareStackTrace = (_error, frames) => frames;"
        "const found = () => new Error().stack.map("
        " (one) => one.getThis?.() ?? one.getFunction?.());"
        "const seen = await new Promise((ok) => setTimeout(() => ok([...found()]), 1));"
        "const [first] = [...seen, ...found()].filter((one) => one != null);"
        "return first.constructor.name"
    ),
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
    "signalling its parent": "return Deno.kill(Deno.ppid, 'SIGCONT')",
    "its own memory": "return Deno.openSync('/proc/self/mem', { read: true, write: true }).fd",
    "its environment in /proc": "return Deno.readTextFileSync('/proc/self/environ')",
    "its descriptors in /proc": "return [...Deno.readDirSync('/proc/self/fd')].length",
    "a socket in a file": (
        "return Deno.listen({ transport: 'unix', path: '/tmp/x.sock' }).addr.path"
    ),
    "an abstract socket": "return await Deno.connect({ transport: 'unix', path: '\\0x' })",
    "serving": "return Deno.serve({ port: 0 }, () => new Response('')).addr.port",
    "a temporary file": "return Deno.makeTempFileSync()",
    "a link": "return Deno.symlinkSync('/etc/passwd', '/tmp/x.link') ?? 'linked'",
    "another folder": "return Deno.chdir('/etc') ?? Deno.cwd()",
    "who runs it": "return Deno.uid()",
    "the network's devices": "return Deno.networkInterfaces().length",
    "the machine's memory": "return Deno.systemMemoryInfo().total",
    "an operation that opens": (
        "return Deno[Deno.internal].core.ops.op_node_open_sync('/etc/passwd', 0, 0o666)"
    ),
    "an operation that copies": (
        "return Deno[Deno.internal].core.ops.op_fs_copy_file_sync('/etc/passwd', '/tmp/x') ?? 1"
    ),
    "an operation that makes pointers": (
        "return String(Deno[Deno.internal].core.ops.op_ffi_ptr_create(4096n))"
    ),
    "a module of the host evaluated": (
        "const { core } = Deno[Deno.internal];"
        "const [found, failed] = core.evalContext('Deno.readTextFileSync(`/etc/passwd`)', 'x:x');"
        "if (failed) throw failed.thrown; return found"
    ),
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
