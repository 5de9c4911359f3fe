"""One listener's misery is its own: the others go on, and what happened is on record."""

from __future__ import annotations

import pytest

from events.json_codec import JsonObject
from tests.integration.live_installation import LiveInstallation, json_lines, wait_until

pytestmark = pytest.mark.integration

GOOD = """
    # /// rowcast
    # on = "custom.bad_day"
    # ///
    async def main(event, g):
        await g.emit("custom.good_end", event["data"])
"""


def dead_letters(live: LiveInstallation, listener: str) -> list[JsonObject]:
    return json_lines(live.command("dead", "--listener", listener, "--json").stdout)


def wait_for_dead_letter(live: LiveInstallation, listener: str) -> JsonObject:
    return wait_until(
        lambda: letters[0] if (letters := dead_letters(live, listener)) else None,
        f"a dead letter of {listener}",
    )


def test_the_others_go_on_beside_listeners_that_raise_never_end_or_take_all_memory(
    live: LiveInstallation,
) -> None:
    header = """
    # /// rowcast
    # on = "custom.bad_day"
    # timeout_s = %d
    # retry = { attempts = %d, backoff_s = 0.1 }
    # ///
    """
    live.apply("good", GOOD)
    live.apply(
        "raises", header % (2, 3) + "def main(event, g):\n        raise ValueError('no luck')\n"
    )
    live.apply("endless", header % (2, 1) + "def main(event, g):\n        while True: pass\n")
    live.apply(
        "greedy",
        # Long enough to meet the limit of memory before that of time, however slow the machine.
        header % (60, 1) + "def main(event, g):\n        hoard = []\n"
        "        while True: hoard.append(bytearray(8 << 20))\n",
    )
    for number in range(5):
        live.emit("custom.bad_day", {"number": number})
    ends = live.wait_for_events(lambda event: event.type == "custom.good_end", 5)
    assert len(ends) == 5

    letter = wait_for_dead_letter(live, "raises")
    assert letter["attempts"] == 4
    error = letter["error"]
    assert isinstance(error, str)
    assert "ValueError: no luck" in error
    event = letter["event"]
    assert isinstance(event, dict)
    assert event["type"] == "custom.bad_day"
    tries = [run["attempt"] for run in live.runs("raises") if run_event(run) == event["id"]]
    assert tries[:4] == [1, 2, 3, 4]

    wait_for_dead_letter(live, "endless")
    assert {str(run["status"]) for run in live.runs("endless")} >= {"timeout"}
    memory = str(wait_for_dead_letter(live, "greedy")["error"])
    assert "MemoryError" in memory or "memory" in memory
    for name in ("good", "raises", "endless", "greedy"):
        live.command("delete", name)


def run_event(run: JsonObject) -> object:
    event = run["event"]
    assert isinstance(event, dict)
    return event["id"]
