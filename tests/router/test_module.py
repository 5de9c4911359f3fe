from __future__ import annotations

import pytest

from router.definition import Definition, Emit, ListenerCode, check_definition
from router.errors import CodeSyntaxError, DefinitionError
from router.listener_file import parse_listener_file
from router.module import (
    MAX_CODE_BYTES,
    Module,
    decode_module,
    missing_modules,
    parse_module_file,
)


def file(header: str, code: str = "x = 1\n") -> str:
    return f"# /// rowcast\n# {header}\n# ///\n{code}"


LISTENER = file('on = "custom.x"\n# modules = ["pricing"]', "def main(event, g): pass\n")


def test_a_module_is_read_back_from_its_record() -> None:
    module = parse_module_file("a.py", file('module = "pricing"'))
    assert module == Module("pricing", file('module = "pricing"'))
    assert decode_module(module.encode()) == module


def test_a_version_grows_with_each_change_only() -> None:
    one = Module("a", "1")
    first = one.succeeding(None, 0)
    assert one.succeeding(first, 0) is first
    assert [first.version, Module("a", "2").succeeding(first, 0).version] == [1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (file('module = "json"'), "which is a module that there is already"),
        (file('module = "rowcast_guest"'), "choose another"),
        (file('module = "a-b"'), "expected letters, digits and '_'"),
        (file('module = "_a"'), "a letter first"),
        (file('module = "class"'), "a letter first"),
        (file('module = "' + "a" * 65 + '"'), "64 at most"),
        (file("module = 1"), "found module = 1, expected a name"),
        (file('module = "a"\n# on = "custom.x"'), "found the key 'on' beside `module`"),
        (file('module = "a"', "#" * MAX_CODE_BYTES), "split the module"),
        (file('module = "a"', "x = 1\0"), "null bytes"),
    ],
)
def test_a_file_that_is_no_module_says_why(text: str, said: str) -> None:
    with pytest.raises(DefinitionError, match=r"a\.py") as raised:
        parse_module_file("a.py", text)
    assert said in str(raised.value)


def test_code_that_does_not_parse_here_may_still_be_right() -> None:
    with pytest.raises(CodeSyntaxError, match=r"a.py:4: SyntaxError") as raised:
        parse_module_file("a.py", file('module = "a"', "x = = 1\n"))
    assert raised.value.definition.name == "a"


@pytest.mark.parametrize("value", [b"", b"{}", b'{"module": "json", "code": ""}', b"[1]"])
def test_a_record_that_is_no_module_is_refused(value: bytes) -> None:
    with pytest.raises(DefinitionError):
        decode_module(value)


def test_a_listener_names_its_modules() -> None:
    assert parse_listener_file("l.py", LISTENER).modules == ("pricing",)
    present = {"other": Module("other", "")}
    assert missing_modules(("other",), present) is None
    assert 'module = "pricing"' in str(missing_modules(("other", "pricing"), present))


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (("os",), "there is already"),
        (("a", "a"), "twice"),
        (tuple(f"m{number}" for number in range(21)), "0 to 20"),
    ],
)
def test_modules_that_cannot_be_named_are_refused(modules: tuple[str, ...], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        check_definition(Definition("a", "custom.x", ListenerCode("x"), modules=modules))


def test_a_trigger_has_no_modules() -> None:
    with pytest.raises(DefinitionError, match="in a trigger"):
        check_definition(Definition("a", "custom.x", Emit("custom.y"), modules=("a",)))
