"""What no run may do, whatever it leaves: end the routing of all the others."""

from __future__ import annotations

import pytest

from events.cluster import Cluster
from events.event import decode_event
from events.json_codec import JsonObject, decode_object
from events.mail import NoMail
from events.outgoing_record import OutgoingRecord
from events.run import Emission, LogLine, PushMessage, RunOutcome, RunRequest, StateWrite
from router.carrier import Carrier
from router.definition import Definition, Emit, ListenerCode, Retry
from router.delivery import Delivery
from router.state_table import StateTable

pytestmark = pytest.mark.anyio

DEEP_TEXT = b"[" * 300 + b"]" * 300
DEEP = decode_object(b'{"a":' + DEEP_TEXT + b"}")["a"]
EVENT = b'{"id":"e-1","type":"custom.x","n":123456789012345678901234567890,"deep":%b}' % DEEP_TEXT


class Answers:
    def __init__(self, outcome: RunOutcome) -> None:
        self._outcome = outcome

    async def run(self, request: RunRequest) -> RunOutcome:
        assert request.event == EVENT
        return self._outcome


async def carried(definition: Definition, outcome: RunOutcome) -> list[OutgoingRecord]:
    cluster = Cluster("127.0.0.1:1")
    carrier = Carrier(cluster, Answers(outcome), StateTable(), dict, NoMail())
    delivery = Delivery(definition, decode_event(EVENT), None, "t", 0, 0)
    left: list[OutgoingRecord] = []
    finished: list[bool] = []

    def settle(
        _delivery: Delivery,
        records: list[OutgoingRecord],
        done: bool,
        _writes: tuple[StateWrite, ...],
    ) -> None:
        left.extend(records)
        finished.append(done)

    await carrier.carry(delivery, settle)
    await carrier.close()
    assert finished[-1]
    return left


def listener() -> Definition:
    return Definition("a", "custom.x", ListenerCode("x"), retry=Retry(attempts=0))


def of_topic(records: list[OutgoingRecord], topic: str) -> list[JsonObject]:
    return [decode_object(record.value or b"") for record in records if record.topic == topic]


@pytest.mark.parametrize(
    "outcome",
    [
        RunOutcome("ok", 1.0, emissions=(Emission("custom.y", DEEP),)),
        RunOutcome("ok", 1.0, emissions=(Emission("nothing", 1),)),
        RunOutcome("ok", 1.0, emissions=(Emission("custom.y", float("nan")),)),
        RunOutcome("ok", 1.0, pushes=(PushMessage("..", 1),)),
        RunOutcome("ok", 1.0, logs=(LogLine("info", "x", {"deep": DEEP}),)),
        RunOutcome("failed", 1.0, error="\ud800"),
    ],
)
async def test_what_cannot_be_written_is_a_failed_run_and_a_dead_letter(
    outcome: RunOutcome,
) -> None:
    left = await carried(listener(), outcome)
    (run,) = of_topic(left, "rowcast.runs")
    (letter,) = of_topic(left, "rowcast.dead")
    assert run["status"] == "failed"
    assert run["emitted"] == []
    assert "cannot be written" in str(run["error"])
    assert letter["listener"] == "a"


async def test_what_a_run_returns_stands_in_its_record() -> None:
    left = await carried(listener(), RunOutcome("ok", 1.0, result={"rows": 3}))
    (run,) = of_topic(left, "rowcast.runs")
    assert run["result"] == {"rows": 3}


async def test_a_template_that_takes_what_cannot_be_written_is_a_failed_run() -> None:
    emit = Definition("a", "custom.x", Emit("custom.y", "$.deep"), retry=Retry(attempts=0))
    left = await carried(emit, RunOutcome("ok", 1.0))
    (run,) = of_topic(left, "rowcast.runs")
    assert run["status"] == "failed"


async def test_a_dead_letter_holds_its_event_to_the_last_byte() -> None:
    left = await carried(listener(), RunOutcome("failed", 1.0, "no"))
    (letter,) = [record.value for record in left if record.topic == "rowcast.dead"]
    assert EVENT in (letter or b"")
