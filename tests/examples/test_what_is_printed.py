"""Every command that `rowcast up` prints for an example does what a new user hopes: it works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from rowcast.command_line import main
from rowcast.example_files import EXAMPLES
from tests.examples.conftest import NAMES, Scenarios

pytestmark = pytest.mark.integration


def commands(printed: str) -> list[str]:
    """The command lines of a text, those that go on in a next line as one."""
    joined = re.sub(r"\\\n\s*", "", printed)
    starts = ("curl ", "cat ", "/", ".venv/")
    return [line.strip() for line in joined.splitlines() if line.strip().startswith(starts)]


def test_each_command_that_is_printed_works(scenarios: Scenarios, tmp_path: Path) -> None:
    printed = scenarios.output.read_text().partition("Rowcast is ready")[2]
    found = commands(printed)
    assert len(found) >= 2 * len(NAMES)
    # An answer that is an error ends curl with one.
    (tmp_path / ".curlrc").write_text("fail\nsilent\n")
    with (
        scenarios.server("user-onboarding/mail_server.py", 5),
        scenarios.server("third-party/analytics_server.py", 9),
    ):
        for command in found:
            if "rowcast " in command:
                # In this process, which saves a second each time.
                ran = CliRunner().invoke(main, shlex.split(command)[1:])
                assert ran.exit_code == 0, f"{command}\n{ran.output}"
                assert ran.output.strip(), command
                continue
            done = subprocess.run(
                ("bash", "-c", command),
                capture_output=True,
                text=True,
                check=False,
                cwd=EXAMPLES.parent,
                env={**os.environ, "CURL_HOME": str(tmp_path)},
                timeout=90,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_an_installation_keeps_its_examples(scenarios: Scenarios) -> None:
    refused = CliRunner().invoke(main, ("up", "--dir", str(scenarios.folder), "--example", "shop"))
    assert refused.exit_code == 2
    assert "an installation keeps what it was made with" in refused.output
