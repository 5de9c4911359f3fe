from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.json_codec import JsonObject, JsonValue, decode, encode
from events.redaction import Redaction
from events.run import StateWrite
from listener_runtime.errors import HostCallError
from listener_runtime.listener_state import MAX_KEYS, MAX_VALUE_BYTES, ListenerState

KEYS = st.sampled_from(["a", "b", "ba", "c"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)
STEPS = st.lists(st.tuples(st.sampled_from(["kv.set", "kv.delete"]), KEYS, VALUES))


def state(committed: dict[str, JsonValue] | None = None, *secrets: str) -> ListenerState:
    present = {key: encode(value) for key, value in (committed or {}).items()}
    return ListenerState(present, Redaction(secrets))


@given(st.dictionaries(KEYS, VALUES), STEPS)
def test_a_run_sees_its_own_writes_over_what_was_committed(
    committed: dict[str, JsonValue], steps: list[tuple[str, str, JsonValue]]
) -> None:
    run, model = state(committed), dict(committed)
    for name, key, value in steps:
        if name == "kv.set":
            run.call(name, {"key": key, "value": value})
            model[key] = value
        else:
            assert run.call(name, {"key": key}) == {"deleted": key in model}
            model.pop(key, None)
        for one in ("a", "b", "ba", "c"):
            found = run.call("kv.get", {"key": one})
            assert found == ({"value": model[one]} if one in model else {})
        assert run.call("kv.list", {}) == {"keys": sorted(model)}
        assert run.call("kv.list", {"prefix": "b"}) == {
            "keys": sorted(key for key in model if key.startswith("b"))
        }
    after = dict(committed)
    for write in run.writes:
        if write.value is None:
            del after[write.key]
        else:
            after[write.key] = decode(write.value)
    assert after == model


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("kv.drop", {}, "expected one of kv.get"),
        ("kv.get", {}, "missing required field `key`"),
        ("kv.get", {"key": 1}, "Expected `str`"),
        ("kv.get", {"key": ""}, "expected 1 to 200"),
        ("kv.get", {"key": "k" * 201}, "201 characters"),
        ("kv.get", {"key": "\ud800"}, "no Unicode"),
        ("kv.get", {"key": "a", "more": 1}, "unknown field `more`"),
        ("kv.set", {"key": "a"}, "missing required field `value`"),
        ("kv.set", {"key": "a", "value": "x" * MAX_VALUE_BYTES}, "expected 65,536 at most"),
        ("kv.set", {"key": "a", "value": 2**70}, "JSON cannot hold"),
        ("kv.set", {"key": "a", "value": "\ud800"}, "JSON cannot hold"),
        ("kv.list", {"prefix": None}, "Expected `str`"),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(
    name: str, args: JsonObject, said: str
) -> None:
    run = state({"a": 1})
    with pytest.raises(HostCallError) as raised:
        run.call(name, args)
    assert said in str(raised.value)
    assert run.writes == ()


def test_a_listener_has_a_thousand_keys_at_most_and_deleting_makes_room() -> None:
    run = state({str(number): 1 for number in range(MAX_KEYS)})
    run.call("kv.set", {"key": "7", "value": 2})
    with pytest.raises(HostCallError, match="1,000 keys"):
        run.call("kv.set", {"key": "new", "value": 1})
    run.call("kv.delete", {"key": "8"})
    run.call("kv.delete", {"key": "8"})
    run.call("kv.set", {"key": "new", "value": 1})
    with pytest.raises(HostCallError, match="1,000 keys"):
        run.call("kv.set", {"key": "8", "value": 1})


def test_a_run_writes_eight_mebibytes_at_most_and_writing_again_takes_the_place() -> None:
    run = state()
    value = "x" * (MAX_VALUE_BYTES - 2)
    for _ in range(1_000):
        run.call("kv.set", {"key": "same", "value": value})
    for number in range(127):
        run.call("kv.set", {"key": str(number), "value": value})
    with pytest.raises(HostCallError, match="in one run"):
        run.call("kv.set", {"key": "more", "value": value})
    run.call("kv.delete", {"key": "same"})
    run.call("kv.set", {"key": "more", "value": value})


def test_secrets_are_masked_in_keys_and_values() -> None:
    run = state(None, "hunter22")
    run.call("kv.set", {"key": "k hunter22", "value": ["hunter22"]})
    assert run.writes == (StateWrite("k [secret]", b'["[secret]"]'),)
