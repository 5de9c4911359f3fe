"""The guest's side of a run: an event loop without a world, and the messages it exchanges.

Lives in the snapshot as the module `_runner`. JavaScript calls `start`, `answer` and `wake` with
text and gets text back: lines of JSON for the host, then a last line that says what next: `D` the
run is done, `W<ms>` call again after so long or with an answer, `W-1` only with an answer. Nothing
here protects anybody: a guest may change it all, and the host trusts none of it.
"""

import asyncio
import gc
import heapq
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
_HEADLINE = 'the code has no function "main", expected: async def main(event, g)'


# A listener that patches the module by mistake must not break its own end.
_to_json, _from_json = json.dumps, json.loads


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
                if _run.task.done():
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


class _Run:
    """What one run has under way."""

    def __init__(self):
        self.lines = []
        self.pending = {}
        self.calls = 0
        self.loop = None
        self.task = None
        self.name = ""


_run = _Run()


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
    sys.excepthook = sys.__excepthook__
    gc.collect()


def call(name, args):
    """Ask the host; returns a future."""
    run = _run
    if len(run.pending) >= MAX_PENDING_CALLS:
        raise HostError(f"more than {MAX_PENDING_CALLS} calls wait for an answer; await some first")
    text = _dumps({"t": "call", "id": run.calls + 1, "name": name, "args": args}, name)
    run.calls += 1
    future = run.loop.create_future()
    run.pending[run.calls] = future
    run.lines.append(text)
    return future


def tell(message, what):
    """Tell the host something that has no answer."""
    _run.lines.append(_dumps(message, what))


def _dumps(value, what):
    try:
        return _to_json(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise HostError(f"{what}: found a value that JSON cannot hold: {error}") from None


def start(header, event, code):
    """Begin a run."""
    random.seed()
    run = _run
    options = _from_json(header)
    run.__init__()
    run.name = options["listener"]
    run.loop = _Loop()
    _events.set_event_loop(run.loop)
    run.task = run.loop.create_task(_main(options, event, code))
    return _step()


def answer(text):
    """Give a call its answer."""
    reply = _from_json(text)
    future = _run.pending.pop(reply["id"], None)
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
    run = _run
    run.loop.run_ready()
    if run.task.done():
        run.lines.append(_end(run))
        sys.stdout.flush()
        sys.stderr.flush()
        control = "D"
    else:
        control = f"W{run.loop.next_ms()}"
    text = "".join(line + "\n" for line in run.lines) + control
    run.lines.clear()
    return text


async def _main(options, event, code):
    import _guest

    filename = f"{run_name(options['listener'])}.py"
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    space = {"__name__": "listener", "__file__": filename, "__builtins__": __builtins__}
    exec(compile(code, filename, "exec", dont_inherit=True), space)
    main = space.get("main")
    if not callable(main):
        raise NameError(_HEADLINE)
    try:
        result = main(_from_json(event), _guest.G(options))
        if inspect.isawaitable(result):
            result = await result
    except (SystemExit, KeyboardInterrupt) as error:
        # Left to itself it would end the process instead of the run.
        raise RuntimeError(f"the code ended itself with {error!r}") from None
    return result


def run_name(listener):
    """The listener's name as a file's."""
    return listener.replace("/", "_")


def _end(run):
    if run.task.cancelled():
        return _to_json({"t": "done", "ok": False, "error": "the run cancelled itself"})
    error = run.task.exception()
    if error is None:
        try:
            return _to_json(
                {"t": "done", "ok": True, "result": run.task.result()},
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            )
        except (TypeError, ValueError, RecursionError) as reason:
            text = f"TypeError: main returned a value that JSON cannot hold: {reason}"
            return _to_json({"t": "done", "ok": False, "error": text})
    try:
        text = _traceback(error)
    except BaseException:
        # The guest broke what tracebacks are made with.
        text = f"{type(error).__name__}: {error}"
    return _to_json({"t": "done", "ok": False, "error": text})


def _traceback(error):
    """The traceback from the listener's own code on."""
    seen = traceback.TracebackException.from_exception(error, limit=None)
    part, depth = seen, 0
    while part is not None and depth < 10:
        part.stack[:] = [
            frame for frame in part.stack if frame.filename not in ("_runner.py", "_guest.py")
        ]
        part, depth = part.__cause__ or part.__context__, depth + 1
    out = io.StringIO()
    out.writelines(seen.format())
    return out.getvalue().replace("_guest.", "").replace("_runner.", "").rstrip()
