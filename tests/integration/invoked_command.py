"""A rowcast command in the tests' own process: a process of its own takes a second to begin."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import traceback

from click.testing import CliRunner

from rowcast.command_line import main


def may_be_invoked() -> bool:
    """Whether it can be: a command runs a loop, and its output is caught for all threads."""
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a process of the command would have printed, and its exit status."""
    kafka_log = logging.getLogger("aiokafka")
    level = kafka_log.level
    try:
        result = CliRunner().invoke(main, arguments, prog_name="rowcast")
    finally:
        kafka_log.setLevel(level)
    errors = result.stderr
    if result.exc_info is not None and not isinstance(result.exception, SystemExit):
        errors += "".join(traceback.format_exception(*result.exc_info))
    return subprocess.CompletedProcess(
        (sys.executable, "-m", "rowcast", *arguments), result.exit_code, result.stdout, errors
    )
