"""docs/triggers.md says nothing that is not so: every example on it is applied."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import cast

import pytest

from events.event_type import EventPattern
from events.json_codec import decode, decode_object, encode
from router.definition import Definition, Email, Emit, Retry, Webhook
from router.listener_file import parse_listener_file
from router.trigger_file import parse_trigger_file
from router.where import compile_where, operators

PAGE = (Path(__file__).parents[2] / "docs" / "triggers.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first heading it is, without their backticks."""
    lines = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_trigger_on_the_page_can_be_applied(text: str) -> None:
    name = text.splitlines()[0].removeprefix("# ")
    assert parse_trigger_file(name, text).name == name.removesuffix(".toml")


@pytest.mark.parametrize("text", blocks("python"))
def test_each_listener_on_the_page_can_be_applied(text: str) -> None:
    parse_listener_file("example.py", text)


def test_there_are_examples_of_all_actions() -> None:
    kinds = [type(parse_trigger_file("a.toml", text).action) for text in blocks("toml")]
    assert {Webhook, Emit, Email} == set(kinds)
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("row", rows("pattern"))
def test_each_pattern_selects_what_the_page_says(row: list[str]) -> None:
    pattern = EventPattern.parse(row[0])
    assert pattern.matches(row[1])
    assert not row[2] or not pattern.matches(row[2])


@pytest.mark.parametrize("row", rows("where"))
def test_each_filter_matches_what_the_page_says(row: list[str]) -> None:
    text, matching, other = row
    where = compile_where(tomllib.loads(f"where = {text}")["where"])
    assert where(decode_object(matching))
    assert not where(decode_object(other))


def test_every_operator_has_an_example() -> None:
    examples = " ".join(row[0] for row in rows("where"))
    assert {name for name in operators() if f"{name} =" not in examples} == set()


def test_every_key_is_on_the_page_with_its_default() -> None:
    plain = Definition("a", "custom.x", Emit("custom.y"))
    fields = set(Definition.__struct_fields__) - {"action", "version", "since_ms"}
    table = {row[0]: row[1] for row in rows("key")}
    assert set(table) == fields
    retry = cast("dict[str, object]", tomllib.loads(f"r = {table['retry']}")["r"])
    assert Retry(**retry) == Retry()  # pyright: ignore[reportArgumentType] - as the page has it
    for key in fields - {"on", "where", "name", "retry", "schedule", "every"}:
        assert tomllib.loads(f"v = {table[key]}")["v"] == decode(encode(getattr(plain, key)))
