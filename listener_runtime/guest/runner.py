"""The guest's side of a run: an event loop without a world, and the messages it exchanges.

Lives in the snapshot as the module `_runner`. A frame may hold several runs of one listener, which
share an interpreter and go on beside each other; every message says whose it is (`r`). JavaScript calls `start`, `answer` and `wake` with
text and gets text back: lines of JSON for the host, then a last line that says what next: `D` the
run is done, `W<ms>` call again after so long or with an answer, `W-1` only with an answer. Nothing
here protects anybody: a guest may change it all, and the host trusts none of it.
"""

import asyncio
import contextvars
import gc
import heapq
import importlib.machinery
import inspect
import io
import json
import linecache
import random
import sys
import traceback
from asyncio import events as _events

MAX_PENDING_CALLS = 100
_BRIDGE = ("js", "pyodide_js", "_pyodide_js", "pyodide", "_pyodide", "_pyodide_core", "ctypes", "_ctypes")
_OURS = ("_runner.py", "_guest.py")
_HEADLINE = 'the code has no function "main", expected: async def main(event, g)'


# A listener that patches the module by mistake must not break its own end.
_to_json, _from_json = json.dumps, json.loads
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class HostError(Exception):
    """A call that the host refused or that failed there."""


class _Nothing:
    """A selector of a loop that has no sockets."""

    def select(self, _timeout):
        return ()


class _Loop(asyncio.BaseEventLoop):
    def __init__(self):
        super().__init__()
        self._selector = _Nothing()

    def _process_events(self, _list):
        pass

    def _write_to_self(self):
        pass

    def run_ready(self):
        """Run callbacks until none is due; whoever waits for a later one is told by `next_ms`."""
        _events._set_running_loop(self)
        try:
            while self._ready or self.next_ms() == 0:
                self._run_once()
                if _batch.open == 0:
                    break
        finally:
            _events._set_running_loop(None)

    def next_ms(self):
        """Milliseconds to the next timer; -1 where there is none."""
        while self._scheduled and self._scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._scheduled:
            return -1
        left = self._scheduled[0]._when - (self.time() + self._clock_resolution)
        return max(0, int(left * 1000) + 1) if left > 0 else 0


class _Batch:
    """What the runs of one frame have under way; usually it is one run."""

    def __init__(self):
        self.lines = []
        self.pending = {}
        self.calls = 0
        self.open = 0
        self.tasks = set()


class _Printed:
    """stdout where several runs share an interpreter: what is printed is the run's own log."""

    def __init__(self):
        self.parts = {}

    def write(self, text):
        run = _run.get()
        self.parts[run] = self.parts.get(run, "") + text
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self):
        run = _run.get()
        text = self.parts.pop(run, "").rstrip("\n")
        if text:
            tell({"t": "log", "level": "info", "message": text}, "print")


class _Modules:
    """Finds and loads the modules that the listener names in its header."""

    def __init__(self):
        self.code = {}

    def find_spec(self, name, _path=None, _target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in self.code else None

    def create_module(self, _spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        filename = module.__file__ = f"{name}.py"
        code = self.code[name]
        _remember_lines(filename, code)
        exec(compile(code, filename, "exec", dont_inherit=True), module.__dict__)


modules = _Modules()
_batch = _Batch()
_loop = None
_main = None
_code = None
_run = contextvars.ContextVar("run", default=0)


def seal():
    """Close what leads from Python to JavaScript; called once in each process, before any run."""
    bridge = [name for name in sys.modules if name.split(".")[0] in _BRIDGE]
    for finder in list(sys.meta_path):
        kind = finder if isinstance(finder, type) else type(finder)
        if kind.__module__.split(".")[0] in _BRIDGE:
            sys.meta_path.remove(finder)
            getattr(finder, "jsproxies", {}).clear()
    for name in bridge:
        module = sys.modules.pop(name)
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if hasattr(loader, "jsproxy"):
            loader.jsproxy = None
        getattr(module, "__dict__", {}).clear()
    sys.meta_path.append(modules)
    sys.excepthook = sys.__excepthook__
    gc.collect()


def call(name, args):
    """Ask the host; returns a future."""
    batch = _batch
    if len(batch.pending) >= MAX_PENDING_CALLS:
        raise HostError(f"more than {MAX_PENDING_CALLS} calls wait for an answer; await some first")
    number = batch.calls + 1
    message = {"t": "call", "r": _run.get(), "id": number, "name": name, "args": args}
    batch.lines.append(_dumps(message, name))
    batch.calls = number
    future = batch.pending[number] = _loop.create_future()
    return future


def tell(message, what):
    """Tell the host something that has no answer."""
    message["r"] = _run.get()
    _batch.lines.append(_dumps(message, what))


def _dumps(value, what):
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise HostError(f"{what}: found a value that JSON cannot hold: {error}") from None


def start(header, events, code):
    """Begin the runs of a frame; where the code is the one that is loaded, it is not loaded again."""
    global _batch, _loop
    random.seed()
    options = _from_json(header)
    _batch = _Batch()
    if _loop is None or not options["keep"]:
        _loop = _Loop()
        _events.set_event_loop(_loop)
    if options["keep"] and not isinstance(sys.stdout, _Printed):
        sys.stdout = _Printed()
    modules.code = options.pop("modules")
    runs = options.pop("runs")
    _batch.open = len(runs)
    for number, (run, event) in enumerate(zip(runs, _from_json(events), strict=True)):
        context = contextvars.copy_context()
        context.run(_run.set, number)
        task = _loop.create_task(_carry({**options, **run}, event, code, number), context=context)
        _batch.tasks.add(task)
    return _step()


def answer(text):
    """Give a call its answer."""
    reply = _from_json(text)
    future = _batch.pending.pop(reply["id"], None)
    if future is not None and not future.done():
        if "error" in reply:
            future.set_exception(HostError(reply["error"]))
        else:
            future.set_result(reply.get("value"))
    return _step()


def wake():
    """Go on after a wait."""
    return _step()


def _step():
    batch = _batch
    _loop.run_ready()
    if batch.open == 0:
        sys.stdout.flush()
        sys.stderr.flush()
        control = "D"
    else:
        control = f"W{_loop.next_ms()}"
    text = "".join(line + "\n" for line in batch.lines) + control
    batch.lines.clear()
    return text


async def _carry(options, event, code, number):
    """One run, to its last message."""
    batch = _batch
    try:
        result = _load(options["listener"], code)(event, _guest.G(options))
        if inspect.isawaitable(result):
            result = await result
        message = _dumps({"t": "done", "r": number, "ok": True, "result": result}, "main's result")
    except BaseException as error:
        message = _to_json({"t": "done", "r": number, "ok": False, "error": _explain(error)})
    if isinstance(sys.stdout, _Printed):
        sys.stdout.flush()
    batch.lines.append(message)
    batch.open -= 1


def _load(listener, code):
    """The function `main` of the code."""
    global _main, _code
    if code == _code:
        return _main
    filename = f"{listener}.py"
    _remember_lines(filename, code)
    space = {"__name__": "listener", "__file__": filename, "__builtins__": __builtins__}
    exec(compile(code, filename, "exec", dont_inherit=True), space)
    main = space.get("main")
    if not callable(main):
        raise NameError(_HEADLINE)
    _main, _code = main, code
    return main


def _remember_lines(filename, code):
    """For tracebacks."""
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)


def _explain(error):
    """A failed run's error: the traceback from the listener's own code on."""
    if isinstance(error, asyncio.CancelledError):
        return "CancelledError: the run cancelled itself"
    try:
        return _traceback(error)
    except BaseException:
        # The guest broke what tracebacks are made with.
        return f"{type(error).__name__}: {error}"


def _traceback(error):
    seen = traceback.TracebackException.from_exception(error)
    part, depth = seen, 0
    while part is not None and depth < 10:
        part.stack[:] = [frame for frame in part.stack if frame.filename not in _OURS]
        part, depth = part.__cause__ or part.__context__, depth + 1
    out = io.StringIO()
    out.writelines(seen.format())
    return out.getvalue().replace("_guest.", "").replace("_runner.", "").rstrip()
