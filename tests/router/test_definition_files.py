from __future__ import annotations

import pytest

from router.definition import (
    Definition,
    Emit,
    ListenerCode,
    Webhook,
    decode_definition,
)
from router.errors import CodeSyntaxError, DefinitionError
from router.listener_file import parse_listener_file
from router.trigger_file import parse_trigger_file

MAIN = "async def main(event, g):\n    pass\n"


def listener(header: str, code: str = MAIN) -> str:
    block = "".join(f"# {line}\n" for line in header.splitlines())
    return f"# /// rowcast\n{block}# ///\n{code}"


def test_a_listener_file_is_a_definition_named_after_it() -> None:
    text = listener(
        'on = "db.shop.public.users.created"\n'
        'where = { after = { plan = ["pro"] } }\n'
        "retry = { attempts = 5 }\ntimeout_s = 3.5"
    )
    definition = parse_listener_file("listeners/welcome.py", text)
    assert definition.name == "welcome"
    assert definition.on == "db.shop.public.users.created"
    assert definition.where == {"after": {"plan": ["pro"]}}
    assert definition.retry.attempts == 5
    assert definition.timeout_s == 3.5
    assert definition.action == ListenerCode(text)
    assert decode_definition(definition.encode()) == definition


def test_a_failed_run_is_tried_three_times_more_where_nothing_is_said() -> None:
    definition = parse_listener_file("a.py", listener('on = "custom.x"'))
    assert definition.retry.attempts == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MAIN, r"a\.py: found no block"),
        ("# /// rowcast\n# on = 'custom.x'\n" + MAIN, r"a\.py:3: found 'async def main"),
        ("# /// rowcast\n# on = 'custom.x'\n#", r"a\.py:1: the block .* is not closed"),
        (listener("on = 'custom.x'") + listener("on = 'custom.x'"), r"a\.py:6: found a second"),
        (listener("on = "), r"a\.py: the block that begins on line 2 is not TOML"),
        (listener("when = 'custom.x'"), r"a\.py: .*unknown key 'when'"),
        (listener("on = 'custom.x'\ntimeout = 3"), "did you mean 'timeout_s'"),
        (listener("on = 'custom.x'\nretry = { atempts = 3 }"), "'atempts'.*'attempts'"),
        (listener("name = 'x'"), "missing required field `on`"),
        (listener("on = 'orders.created'"), "'orders' at the start of 'orders.created'"),
        (listener("on = 'custom.x'\nwhere = { a = [] }"), "empty list at where.a"),
        (listener("on = 'custom.x'\nevery = '5m'"), "found `on` and `every`, expected one"),
        (listener("every = '5 m'"), "found the period '5 m', expected text such as"),
        (listener("schedule = '* *'"), "cron expression '\\* \\*'.*expected five fields"),
        (listener("on = 'custom.x'\ntime_zone = 'CET'"), "expected a `schedule` or `every`"),
        (listener("on = 'custom.x'\ntimeout_s = 0"), "timeout_s = 0.*expected 0.001 to 900"),
        (listener("on = 'custom.x'\nname = 'a b'"), "found the name 'a b'"),
        (listener("on = 'custom.x'", "x = 1\n"), r"a\.py: found no function main"),
        (listener("on = 'custom.x'", "def main(event):\n    pass\n"), r"a\.py:4: main takes 1"),
        (listener("on = 'custom.x'\nemit = {}"), "found 'emit' in a listener's block"),
        (listener("on = 'custom.x'\nversion = 7"), r"a\.py: found 'version', which Rowcast keeps"),
    ],
)
def test_a_mistake_in_a_listener_file_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(DefinitionError, match=expected):
        parse_listener_file("a.py", text)


def test_code_that_does_not_parse_is_shown_with_line_and_caret() -> None:
    text = listener("on = 'custom.x'", "def main(event, g):\n    return (1\n")
    with pytest.raises(CodeSyntaxError) as caught:
        parse_listener_file("a.py", text)
    assert str(caught.value) == (
        "a.py:5: SyntaxError: '(' was never closed\n        return (1\n               ^"
    )
    assert caught.value.definition.summary == "on custom.x"


@pytest.mark.parametrize(
    "code",
    [
        "def main(event, g): pass\n",
        "def main(*arguments): pass\n",
        "async def main(event, g, more=None, *, even=1): pass\n",
    ],
)
def test_a_main_that_can_take_the_event_and_g_is_taken(code: str) -> None:
    parse_listener_file("a.py", listener("on = 'custom.x'", code))


def test_a_trigger_file_asks_for_a_webhook_or_an_event() -> None:
    called = parse_trigger_file(
        "t/call.toml", 'on = "custom.x"\n[webhook]\nurl = "http://localhost:1/x"\n'
    )
    assert called.name == "call"
    assert called.action == Webhook("http://localhost:1/x")
    emits = parse_trigger_file(
        "t/say.toml", 'on = "custom.x"\n[emit]\ntype = "custom.y"\ndata = { a = "$.data.b" }\n'
    )
    assert emits.action == Emit("custom.y", {"a": "$.data.b"})
    assert decode_definition(emits.encode()) == emits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on = 'custom.x'", "found no action, expected one of"),
        ("on = 'custom.x'\n[emit]\ntype='custom.y'\n[webhook]\nurl='http://x'", "and"),
        ("on = 'custom.x'\nemit = 1", "found 1 as emit, expected a table"),
        ("on = 'custom.x'\n[emit]\ntype = 'db.x'", "expected custom"),
        ("on = 'custom.x'\n[emit]\ntype = 'custom.y'\ndata = '$.a..b'", r"\$.a..b"),
        ("on = 'custom.x'\n[webhook]\nurl = 'ftp://x'", "expected http"),
        ("on = 'custom.x'\n[webhook]\nurl = 'http://x'\nmethd = 'PUT'", "methd"),
        ("on = ", "is not TOML"),
    ],
)
def test_a_mistake_in_a_trigger_file_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(DefinitionError, match=expected) as caught:
        parse_trigger_file("t.toml", text)
    assert "t.toml" in str(caught.value)


def test_a_record_that_is_no_definition_is_refused() -> None:
    for value in (b"", b"{}", b'{"name":"a","on":"custom.x","action":{"do":"fly"}}'):
        with pytest.raises(DefinitionError, match="not a definition"):
            decode_definition(value)


def test_a_definition_that_nests_without_end_is_refused_like_any_other() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    emits = b'{"do":"emit","type":"custom.y"}'
    value = b'{"name":"a","on":"custom.x","action":%b,"where":%b}' % (emits, deep)
    with pytest.raises(DefinitionError, match="not a definition"):
        decode_definition(value)


def test_a_version_counts_changes_and_keeps_when_it_was_first_applied() -> None:
    written = Definition("a", "custom.x", Emit("custom.y"))
    first = written.succeeding(None, 1_000)
    assert (first.version, first.since_ms) == (1, 1_000)
    assert written.succeeding(first, 2_000) is first
    changed = Definition("a", "custom.z", Emit("custom.y")).succeeding(first, 2_000)
    assert (changed.on, changed.version, changed.since_ms) == ("custom.z", 2, 1_000)
    assert written.succeeding(None, 3_000).since_ms == 3_000
