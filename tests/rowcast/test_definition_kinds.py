from __future__ import annotations

import pytest

from api.call_hook import CallHook
from api.custom_api import CustomApi
from events.kept_definition import definition_record_key, kind_of_key
from router.definition import Definition, Emit
from router.errors import CodeSyntaxError, DefinitionError
from router.module import Module
from rowcast.definition_kinds import decode_record, parse_definition, record_key


def file(header: str, code: str = "async def main(request, g):\n    return 1\n") -> str:
    block = "".join(f"# {line}\n" for line in header.splitlines())
    return f"# /// rowcast\n{block}# ///\n{code}"


def test_a_file_is_of_the_kind_that_its_header_says() -> None:
    assert isinstance(parse_definition("a.py", file('api = "checkout"')), CustomApi)
    assert isinstance(parse_definition("a.py", file('module = "pricing"')), Module)
    assert isinstance(parse_definition("a.py", file('on = "custom.x"')), Definition)
    trigger = parse_definition("a.toml", 'on = "custom.x"\n[emit]\ntype = "custom.y"\n')
    assert isinstance(trigger, Definition)
    assert isinstance(trigger.action, Emit)


def test_a_hook_is_read_back_from_its_record_and_after_is_a_listener() -> None:
    code = "def main(call, g):\n    pass\n"
    hook = parse_definition("guard.py", file('before = "api.custom.*.called"\norder = 3', code))
    assert isinstance(hook, CallHook)
    assert (hook.name, hook.order, hook.on_error) == ("guard", 3, "refuse")
    assert decode_record(record_key(hook), hook.encode()) == hook
    after = parse_definition("a.py", file('after = "api.data.**"', code))
    assert isinstance(after, Definition)
    assert after.on == "api.data.**"


def test_a_custom_api_is_read_back_from_its_record() -> None:
    header = (
        'api = "checkout"\nmethod = ["POST", "PUT"]\nrole = "anon"\ntimeout_s = 3\n'
        '[input]\ntype = "object"\nrequired = ["items"]'
    )
    api = parse_definition("any.py", file(header))
    assert isinstance(api, CustomApi)
    assert (api.name, api.methods, api.roles) == ("checkout", ("POST", "PUT"), ("anon",))
    assert api.schema == {"type": "object", "required": ["items"]}
    first = api.succeeding(None, 0)
    assert first.version == 1
    assert api.succeeding(first, 0) is first
    assert record_key(first) == b'{"api":"checkout"}'
    assert decode_record(record_key(first), first.encode()) == first


def test_a_record_of_a_kind_that_is_not_known_is_nothing() -> None:
    assert decode_record(definition_record_key("dashboard", "x"), b"anything") is None
    assert decode_record(b"garbage", b"{}") is None
    assert kind_of_key(b'{"a":"b","c":"d"}') is None
    with pytest.raises(DefinitionError, match="not a custom API"):
        decode_record(definition_record_key("api", "x"), b"{}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (file("api = 1"), "found api = 1, expected a name"),
        (file('api = "a/b"'), "found api = 'a/b', expected letters"),
        (
            file('api = "a"\nmethod = "FETCH"'),
            r"found method = \['FETCH'\], expected",
        ),
        (file('api = "a"\nrole = []'), r"found role = \[\]"),
        (file('api = "a"\nrole = "admin"'), "'admin'"),
        (file('api = "a"\ntimeout = 3'), "did you mean 'timeout_s'"),
        (file('api = "a"\nversion = 3'), "unknown key 'version'"),
        (file('api = "a"\ncode = "x"'), "unknown key 'code'"),
        (file('api = "a"\ntimeout_s = 0'), "found timeout_s = 0.*expected 0.001 to 300"),
        (file('api = "a"\nschema = "{"'), "schema that is no JSON"),
        (file('api = "a"\nschema = { type = "nothing" }'), "the custom API a is none"),
        (file('api = "a"\nschema = {}\ninput = {}'), "found `schema` and `input`"),
        (file('api = "a"', "x = 1\n"), r"no function main, expected `async def main\(request, g\)"),
        (file('api = "a"', "def main(request): pass\n"), "expected two: the request and g"),
        (file('api = "a"\nmodules = ["b", "b"]'), "each once"),
        (file('before = "db.shop.**"'), "expected the type of calls"),
        (file('before = "api.**.x"'), r"\*\* only as the last"),
        (file('before = "api.**"\non = "custom.x"'), "unknown key 'on'"),
        (file('before = "api.**"\non_error = "ignore"'), "'ignore'"),
        (file('before = "api.**"\norder = "first"'), "order"),
        (file('after = "custom.x"'), "expected the type of calls"),
        (file('after = "api.**"\non = "custom.x"'), "found `on` and `after`"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(DefinitionError, match=expected) as caught:
        parse_definition("a.py", text)
    assert "a.py" in str(caught.value)


def test_code_that_does_not_parse_here_may_still_be_right() -> None:
    with pytest.raises(CodeSyntaxError) as caught:
        parse_definition("a.py", file('api = "a"', "def main(request, g):\n    return (1\n"))
    assert caught.value.definition.name == "a"
