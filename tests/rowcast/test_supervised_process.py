from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from infra.process import ProcessSpec
from rowcast.supervised_process import NOT_AGAIN_EXIT, ProcessState, SupervisedProcess

pytestmark = pytest.mark.anyio

READY = "import os,sys,time; os.write(int(os.environ['ROWCAST_READY_FD']), b'ready\\n');"


class Changes:
    """The states a process went through, each awaitable."""

    def __init__(self) -> None:
        self.states: list[ProcessState] = []
        self._changed = anyio.Event()

    def note(self, process: SupervisedProcess) -> None:
        self.states.append(process.state)
        self._changed.set()
        self._changed = anyio.Event()

    async def wait_for(self, state: ProcessState, times: int = 1) -> None:
        with anyio.fail_after(30):
            while self.states.count(state) < times:
                await self._changed.wait()


def process(tmp_path: Path, code: str, changes: Changes, stop_s: float = 10) -> SupervisedProcess:
    argv = (sys.executable, "-c", code)
    spec = ProcessSpec("child", argv, tmp_path / "child.log", stop_timeout_s=stop_s)
    return SupervisedProcess(spec, changes.note)


async def test_a_process_is_running_once_it_says_so_and_stopped_when_asked(tmp_path: Path) -> None:
    changes = Changes()
    child = process(tmp_path, READY + "time.sleep(600)", changes)
    child.start()
    await child.ready()
    assert child.pid is not None
    await child.stop()
    assert changes.states == [ProcessState.STARTING, ProcessState.RUNNING, ProcessState.STOPPED]
    assert child.restarts == 0


async def test_a_process_that_is_killed_is_started_again_and_its_end_is_told(
    tmp_path: Path,
) -> None:
    changes = Changes()
    child = process(
        tmp_path, READY + "print('my last words', flush=True); time.sleep(600)", changes
    )
    child.start()
    await child.ready()
    while "my last words" not in (tmp_path / "child.log").read_text():
        await anyio.sleep(0.01)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await changes.wait_for(ProcessState.RUNNING, times=2)
    assert child.pid != first
    assert child.last_exit == "killed by SIGKILL: my last words"
    await child.stop()


async def test_a_process_that_fails_at_once_waits_longer_each_time(tmp_path: Path) -> None:
    changes = Changes()
    child = process(tmp_path, "raise SystemExit('no database there')", changes)
    child.start()
    first_backoff_s = child.backoff_s
    await changes.wait_for(ProcessState.RESTARTING, times=3)
    assert child.last_exit == "exit status 1: no database there"
    assert child.backoff_s >= first_backoff_s * 4
    await child.stop()
    assert child.state is ProcessState.STOPPED


async def test_a_process_that_says_so_is_not_started_again(tmp_path: Path) -> None:
    changes = Changes()
    child = process(tmp_path, f"print('taken over'); raise SystemExit({NOT_AGAIN_EXIT})", changes)
    child.start()
    await changes.wait_for(ProcessState.STOPPED)
    assert changes.states == [ProcessState.STARTING, ProcessState.STOPPED]
    assert child.last_exit == "exit status 3: taken over"
    await child.stop()


async def test_a_process_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    changes = Changes()
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    child = process(tmp_path, ignore + READY + "time.sleep(600)", changes, stop_s=0.2)
    child.start()
    await child.ready()
    await child.stop()
    assert child.last_exit == "killed by SIGKILL"
