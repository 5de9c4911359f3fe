"""Start, crash, stop, start again: nothing is lost and nobody is left behind."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from tests.integration.live_installation import READY, LiveInstallation, wait_until
from tests.port_base import free_port_base

pytestmark = pytest.mark.integration


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveInstallation]:
    """An installation that a test may kill; it runs beside the shared one."""
    installation = LiveInstallation(tmp_path_factory.mktemp("own") / "shop", free_port_base())
    yield installation
    if installation.process is not None and installation.process.poll() is None:
        installation.stop(signal.SIGKILL)


def insert_user(live: LiveInstallation, email: str) -> None:
    with psycopg.connect(live.status().sources["shop"].dsn) as connection:
        connection.execute("insert into users (name, email) values ('Someone', %s)", (email,))


def wait_for_user_event(live: LiveInstallation, email: str) -> None:
    live.wait_for_events(
        lambda event: event.type == "db.shop.public.users.created" and email in str(event.body)
    )


def test_it_stops_cleanly_resumes_and_survives_kills_without_leaving_anyone(
    own: LiveInstallation,
) -> None:
    own.start()
    insert_user(own, "first@example.com")
    wait_for_user_event(own, "first@example.com")

    # Ctrl-C ends everything in order.
    family = own.family()
    assert len(family) >= 7
    assert own.stop(signal.SIGINT) == 0
    assert not [process for process in family if process.is_running()]
    assert own.command("status", check=False).returncode == 1

    # A second start goes on where the first stopped.
    own.start()
    assert len(users_created(own, "first@example.com")) == 1
    insert_user(own, "second@example.com")
    wait_for_user_event(own, "second@example.com")

    # SIGKILL of the supervisor takes everybody along.
    family = own.family()
    own.stop(signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, timeout=60)
    assert not alive, alive
    assert len(gone) == len(family)

    # What was written is still there, once.
    own.start()
    assert len(users_created(own, "second@example.com")) == 1


def users_created(live: LiveInstallation, email: str) -> list[str]:
    lines = live.command("tail", "db.shop.public.users.created", "--dump").stdout.split("\n")
    return [line for line in lines if email in line]


def test_a_child_that_is_killed_comes_back_and_loses_nothing(own: LiveInstallation) -> None:
    own.start()
    for name in ("capture-shop", "router", "http", "kafka", "postgres", "mongo"):
        pid = own.status().services[name].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        own.wait_for_output(f"{name} ended (killed by SIGKILL")

        def back(name: str = name, before: int = pid) -> bool | None:
            service = own.status().services[name]
            return True if service.state == "running" and service.pid != before else None

        wait_until(back, f"{name} to run again")
    wait_until(lambda: all_running(own), "everything to run")
    insert_user(own, "after@example.com")
    wait_for_user_event(own, "after@example.com")


def all_running(live: LiveInstallation) -> bool | None:
    states = {service.state for service in live.status().services.values()}
    return True if states == {"running"} else None


def test_a_port_in_use_is_named_with_the_mend(own: LiveInstallation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", own.port_base + 1))
        taken.listen()
        own.launch()
        assert own.process is not None
        assert own.process.wait(60) == 2
    said = own.output.read_text()
    assert f"port {own.port_base + 1}" in said
    assert "--port-base" in said
    assert "Traceback" not in said


def test_a_second_up_in_the_same_folder_is_refused(live: LiveInstallation) -> None:
    second = LiveInstallation(live.folder, free_port_base())
    second.output = live.folder.with_suffix(".second")
    second.launch()
    assert second.process is not None
    assert second.process.wait(60) == 2
    assert "another `rowcast up` runs" in second.output.read_text()
    assert READY in live.output.read_text()
