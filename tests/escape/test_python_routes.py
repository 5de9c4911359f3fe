"""Known ways out of a Pyodide sandbox, taken from Python: each ends denied.

The first wall: Python has no bridge to JavaScript, no C API, no processes, no sockets. Each route
is run in a real process and must meet the denial named beside it; one that is not denied returns
what it got, which no test expects.
"""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from listener_runtime.pool import SandboxPool
from listener_runtime.settings import HostSettings
from tests.listener_runtime.conftest import opened, pool_settings
from tests.listener_runtime.sandbox_runs import request, result, run

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

HIDDEN_MODULES = (
    "js",
    "pyodide_js",
    "_pyodide_js",
    "_pyodide_core",
    "_ctypes",
    "_testcapi",
    "_testinternalcapi",
    "_testlimitedcapi",
    "_testbuffer",
    "_xxtestfuzz",
    "_remote_debugging",
    "_posixsubprocess",
)

ROUTES = {
    "run_js": ("from pyodide.code import run_js; return run_js('1')", "ModuleNotFoundError"),
    "run_js of the core": ("import _pyodide._base, pyodide; return pyodide.code.run_js", "Error"),
    "import through the loader": (
        "import importlib; return importlib.import_module('js').Deno",
        "ModuleNotFoundError",
    ),
    "ctypes": ("import ctypes; return ctypes.CDLL(None)", "Error"),
    "ctypes running scripts": (
        "import ctypes; return ctypes.pythonapi.emscripten_run_script_int(b'1')",
        "Error",
    ),
    "os.system": ("import os; assert os.system('id') == 0; return 'ran'", "AssertionError"),
    "os.popen": ("import os; return os.popen('id').read()", "Error"),
    "subprocess": ("import subprocess; return subprocess.check_output(['id'])", "Error"),
    "fork": ("import os; return os.fork()", "Error"),
    "exec": ("import os; return os.execv('/bin/sh', ['sh'])", "Error"),
    "a spawned program": ("import os; return os.posix_spawn('/bin/sh', ['sh'], {})", "Error"),
    "processes of its own": (
        "import multiprocessing as m; p = m.Process(target=print); p.start(); return 'started'",
        "Error",
    ),
    "another thread underneath": (
        "import _thread; return _thread.start_new_thread(print, ())",
        "RuntimeError",
    ),
    "an interpreter of its own": (
        "import concurrent.interpreters as i; return i.create().exec('import js')",
        "Error",
    ),
    "descriptors that it has not opened": (
        "import os; return [os.read(fd, 1) for fd in range(3, 64)]",
        "OSError",
    ),
    "the way in of the host's frames": (
        "import os; got = os.read(0, 1); assert got, 'empty'; return got.decode('latin-1')",
        "AssertionError: empty",
    ),
    "threads": (
        "import threading; threading.Thread(target=print).start(); return 'started'",
        "RuntimeError",
    ),
    "sockets": (
        "import socket; return socket.create_connection(('127.0.0.1', 1), timeout=1)",
        "Error",
    ),
    "urllib": ("import urllib.request; return urllib.request.urlopen('http://127.0.0.1')", "Error"),
    "the host's files": ("return open('/etc/passwd').read()", "FileNotFoundError"),
    "the host's processes": ("return open('/proc/self/environ').read()", "FileNotFoundError"),
    "mounting the host": ("import pyodide_js; return pyodide_js.FS.filesystems.NODEFS", "Error"),
    "pipes, which no limit bounds": ("import os; return os.pipe()", "OSError"),
    "writing to the image": (
        "import os; return os.write(os.open('/lib/python314.zip', os.O_WRONLY), b'x')",
        "OSError",
    ),
    "replacing the image": ("import os; return os.rename('/lib', '/tmp/lib')", "OSError"),
    "shared libraries": (
        """
        import importlib.machinery as m, importlib.util as u
        open('/tmp/x.so', 'wb').write(b'\\0asm')
        loader = m.ExtensionFileLoader('x', '/tmp/x.so')
        return u.module_from_spec(u.spec_from_loader('x', loader))
        """,
        "ImportError",
    ),
    "the interpreter's own table of modules": (
        """
        import _imp, importlib.machinery as m
        found = _imp.create_builtin(m.ModuleSpec('_pyodide_core', None))
        assert found is not None, 'nothing'
        return found
        """,
        "AssertionError: nothing",
    ),
    "JavaScript objects left in memory": (
        """
        import gc
        gc.unfreeze()
        found = [o for o in gc.get_objects() if type(o).__name__.startswith('JsProxy')]
        return found[0].constructor.constructor('return 1')()
        """,
        "IndexError",
    ),
    "exceptions of JavaScript": (
        """
        import gc
        gc.unfreeze()
        kinds = [o for o in gc.get_objects() if isinstance(o, type)]
        kind = [o for o in kinds if o.__name__ == 'JsException'][0]
        return kind('x').js_error
        """,
        "Error",
    ),
    "synchronous waiting": (
        """
        import asyncio
        return asyncio.get_running_loop().run_until_complete(asyncio.sleep(0))
        """,
        "RuntimeError",
    ),
}


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[SandboxPool]:
    async with opened(pool_settings(1, 1), HostSettings()) as pool:
        yield pool


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def function(body: str) -> str:
    """A `main` of this body."""
    return f"async def main(event, g):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"


@pytest.mark.parametrize("route", ROUTES)
async def test_the_route_is_denied(shared: SandboxPool, route: str) -> None:
    body, denial = ROUTES[route]
    outcome = await run(shared, function(body))
    assert outcome.status in ("failed", "killed"), outcome.result
    assert denial in str(outcome.error)
    assert "SyntaxError" not in str(outcome.error)


async def test_what_reaches_memory_processes_and_javascript_is_not_there(
    shared: SandboxPool,
) -> None:
    code = """
    import importlib, sys

    def main(event, g):
        found = []
        for name in event:
            sys.modules.pop(name, None)
            try:
                importlib.import_module(name)
            except ImportError:
                continue
            found.append(name)
        return [found, "math" in sys.builtin_module_names]
    """
    assert await result(shared, code, list(HIDDEN_MODULES)) == [[], True]


async def test_a_pickle_runs_no_more_than_the_guest_could(shared: SandboxPool) -> None:
    code = """
    import os, pickle

    class Bomb:
        def __reduce__(self):
            return os.system, ("id",)

    def main(event, g):
        return pickle.loads(pickle.dumps(Bomb()))
    """
    assert await result(shared, code) == -1


ENDLESS = {
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "a number": "9 ** 9 ** 9",
    "a loop in C": "sum(range(10 ** 12))",
    "a loop that catches all": """
        while True:
            try:
                while True: pass
            except BaseException: pass
        """,
    "callbacks": """
        import asyncio
        loop = asyncio.get_running_loop()
        def again(): loop.call_soon(again)
        again()
        await asyncio.Event().wait()
        """,
    "a sleep": "import time; time.sleep(10 ** 6)",
    "something unpacked": "import bz2; bz2.decompress(bz2.compress(b'0' * 10 ** 8)) * 10 ** 9",
    "a loop without signals": """
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True: pass
        """,
}

DEEP = {
    "calls": """
        def f(): return f()
        f()
        """,
    "calls without a limit": """
        import sys
        sys.setrecursionlimit(10 ** 9)
        def f(): return f()
        f()
        """,
    "a value": """
        x = []
        for _ in range(10 ** 6): x = [x]
        return repr(x)
        """,
    "JSON": "import json; return json.loads('[' * 10 ** 6)",
    "parentheses": "return eval('(' * 10 ** 6)",
    "attributes": "exec('x' + '.x' * 10 ** 6)",
}


@pytest.mark.parametrize("work", ENDLESS)
async def test_work_without_end_is_ended_and_the_next_run_is_untouched(
    shared: SandboxPool, work: str
) -> None:
    outcome = await shared.run(request(function(ENDLESS[work]), timeout_s=0.5))
    assert outcome.status in ("timeout", "failed", "killed")
    assert await result(shared, "def main(event, g): return 1") == 1


@pytest.mark.parametrize("work", ENDLESS)
async def test_work_without_end_is_ended_by_its_cpu_time_alone(
    shared: SandboxPool, work: str
) -> None:
    outcome = await shared.run(replace(request(function(ENDLESS[work]), timeout_s=900), cpu_s=0.3))
    assert outcome.status in ("timeout", "failed", "killed")
    assert await result(shared, "def main(event, g): return 1") == 1


@pytest.mark.parametrize("work", DEEP)
async def test_depth_without_end_costs_its_own_run_only(shared: SandboxPool, work: str) -> None:
    outcome = await shared.run(request(function(DEEP[work]), timeout_s=10))
    assert outcome.status in ("failed", "killed", "timeout")
    assert await result(shared, "def main(event, g): return 1") == 1


async def test_the_functions_that_made_javascript_objects_are_shells(shared: SandboxPool) -> None:
    code = """
    import gc

    def main(event, g):
        kinds = []
        gc.unfreeze()
        for function in gc.get_objects():
            if getattr(function, "__name__", "") == "to_js":
                for options in ({}, {"create_pyproxies": True, "pyproxies": None}):
                    try:
                        kinds.append(type(function([1], **options)).__name__)
                    except Exception as error:
                        kinds.append(type(error).__name__)
        return kinds
    """
    kinds = await result(shared, code)
    assert isinstance(kinds, list)
    assert kinds
    assert not [kind for kind in kinds if str(kind).startswith("Js")]


async def test_corrupt_bytecode_costs_its_own_run_only(shared: SandboxPool) -> None:
    code = """
    def main(event, g):
        def f(): pass
        f.__code__ = f.__code__.replace(co_code=bytes(range(256)) * 4, co_stacksize=1)
        return f()
    """
    outcome = await shared.run(request(code, timeout_s=5))
    assert outcome.status in ("failed", "killed", "timeout")
    assert await result(shared, "def main(event, g): return 1") == 1
