from __future__ import annotations

import pytest

from events.event_schema import EventSchemas
from events.json_codec import JsonValue
from events.redaction import Redaction
from events.run import Emission, LogLine, PushMessage, RunOutcome
from listener_runtime.frames import Cancel, Done, Emit, Ending, Log, Push
from listener_runtime.run_record import (
    MAX_DELAYED_BYTES,
    MAX_EFFECT_BYTES,
    MAX_EFFECTS,
    MAX_LOG_LINES,
    MAX_RESULT_BYTES,
    RunRecord,
)

QUIET = Ending("", 0, 0)


def record(*secrets: str) -> RunRecord:
    return RunRecord(Redaction(secrets))


def ended(run: RunRecord, result: JsonValue = None) -> RunOutcome:
    return run.outcome(Done(ok=True, result=result), QUIET, 1.0)


def test_a_run_that_ends_well_gives_all_it_said_in_order() -> None:
    run = record()
    run.emit(Emit("custom.a", {"n": 1}, "k"))
    run.push(Push("orders", [2]))
    run.log(Log("warning", "hm", {"x": 1}))
    outcome = run.outcome(Done(ok=True, result=5), Ending("one\ntwo\n", 0, 0), 1.0)
    assert outcome.emissions == (Emission("custom.a", {"n": 1}, "k"),)
    assert outcome.pushes == (PushMessage("orders", [2]),)
    assert [line.message for line in outcome.logs] == ["hm", "one", "two"]
    assert (outcome.status, outcome.result) == ("ok", 5)


def test_a_run_that_raised_emits_nothing_and_keeps_its_log() -> None:
    run = record()
    run.emit(Emit("custom.a"))
    run.log(Log("info", "before"))
    outcome = run.outcome(Done(ok=False, error="ValueError: no"), QUIET, 1.0)
    assert (outcome.status, outcome.error, outcome.emissions) == ("failed", "ValueError: no", ())
    assert outcome.logs == (LogLine("info", "before"),)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (Emit("db.shop.public.orders.created"), "custom."),
        (Emit("custom.a", data=2**90), "JSON cannot hold"),
        (Emit("custom.a", key="k" * 2_000), "key of 2,000 characters"),
        (Emit("custom.a", data="x" * (MAX_EFFECT_BYTES + 1)), "emit a reference"),
        (Emit("custom.a", name="n"), "without a delay"),
        (Emit("custom.a", delay_s=-1.0), "found delay = -1.0 s"),
        (Emit("custom.a", delay_s=1e300), "ten years"),
        (Emit("custom.a", delay_s=1.0, due_ms=1), "found delay"),
        (Emit("custom.a", due_ms=-1), "the years 1970 to 9999"),
        (Emit("custom.a", due_ms=10**18), "the years 1970 to 9999"),
        (Emit("custom.a", delay_s=1.0, name=" "), "found the name ' '"),
        (Emit("custom.a", delay_s=1.0, name="n" * 300), "at most 200"),
        (Emit("custom.a", "x" * MAX_DELAYED_BYTES, delay_s=1.0), "schedule a reference"),
        (Push("..."), "expected a name"),
        (Push("c" * 300), "at most 200"),
    ],
)
def test_an_effect_that_cannot_be_fails_the_run_and_says_why(
    message: Emit | Push, said: str
) -> None:
    run = record()
    if isinstance(message, Emit):
        run.emit(message)
    else:
        run.push(message)
    outcome = ended(run)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert said in outcome.error
    assert outcome.emissions == outcome.pushes == ()


def test_effects_without_end_are_refused() -> None:
    run = record()
    for _ in range(MAX_EFFECTS + 1):
        run.emit(Emit("custom.a"))
    assert "more than 10,000" in str(ended(run).error)


def test_a_result_too_large_or_not_json_fails_the_run() -> None:
    assert "expected 1,048,576 at most" in str(ended(record(), "x" * MAX_RESULT_BYTES).error)
    assert "JSON cannot hold" in str(ended(record(), 2**90).error)


def test_a_flood_of_lines_is_cut_and_says_so() -> None:
    run = record()
    for number in range(MAX_LOG_LINES + 5):
        run.log(Log("info", str(number)))
    outcome = run.outcome(Done(ok=True), Ending("printed\n", 70, 0), 1.0)
    assert outcome.status == "ok"
    assert outcome.logs[MAX_LOG_LINES - 1].message == str(MAX_LOG_LINES - 1)
    assert [line.message for line in outcome.logs[-2:]] == [
        "70 bytes more were printed and are lost",
        "6 lines more were written and are lost",
    ]


def test_secrets_reach_nothing_that_leaves_the_run() -> None:
    run = record("hunter22")
    run.emit(Emit("custom.a", {"h": "Bearer hunter22"}, "hunter22"))
    run.push(Push("c", "hunter22"))
    run.log(Log("info", "is hunter22", {"f": "hunter22"}))
    outcome = run.outcome(Done(ok=True, result=["hunter22"]), Ending("hunter22\n", 0, 0), 1.0)
    assert "hunter22" not in repr(outcome)
    assert repr(outcome).count("[secret]") == 7
    failed = record("hunter22").outcome(Done(ok=False, error="E: hunter22"), QUIET, 1.0)
    assert failed.error == "E: [secret]"


def test_what_a_run_cancels_it_has_not_scheduled_and_what_it_schedules_after_that_stays() -> None:
    run = record("hidden")
    run.emit(Emit("custom.a", 1, delay_s=1.0, name="one"))
    run.emit(Emit("custom.b", 2, due_ms=5, name="hidden"))
    run.emit(Emit("custom.c", 3))
    run.cancel(Cancel("one"))
    run.cancel(Cancel("one"))
    run.emit(Emit("custom.d", 4, delay_s=0.5, name="one"))
    outcome = ended(run)
    assert outcome.cancelled == ("one",)
    assert outcome.emissions == (
        Emission("custom.b", 2, due_ms=5, name="[secret]"),
        Emission("custom.c", 3),
        Emission("custom.d", 4, delay_s=0.5, name="one"),
    )


def test_a_run_that_cancels_too_much_fails() -> None:
    run = record()
    for number in range(MAX_EFFECTS + 1):
        run.cancel(Cancel(f"n{number}"))
    assert "more than 10,000" in str(ended(run).error)


def test_a_run_that_raised_cancels_nothing() -> None:
    run = record()
    run.cancel(Cancel("one"))
    assert run.outcome(Done(ok=False, error="no"), QUIET, 1.0).cancelled == ()


def test_data_against_its_schema_fails_the_run_with_its_path() -> None:
    schemas = EventSchemas({"custom.x": {"properties": {"n": {"type": "integer"}}}})
    run = RunRecord(Redaction(()), schemas)
    run.emit(Emit("custom.x", {"n": 1}))
    run.emit(Emit("custom.x", {"n": "one"}))
    outcome = ended(run)
    assert (outcome.status, outcome.emissions) == ("failed", ())
    assert "$.n" in (outcome.error or "")
