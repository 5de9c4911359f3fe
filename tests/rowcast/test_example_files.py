"""Examples as files: what is made of them for an installation with other ports."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rowcast.configuration import parse_configuration
from rowcast.errors import ConfigurationError
from rowcast.example import example_servers
from rowcast.example_files import EXAMPLES, definition_files, example_names, settings_text
from rowcast.installation import make_installation, open_installation
from rowcast.new_configuration import new_configuration


def test_a_new_file_has_what_its_examples_need_and_nothing_twice() -> None:
    names = [name for name in example_names() if name != "shop"]
    configuration = parse_configuration(new_configuration(9000, names), {}, "f")
    assert configuration.examples == tuple(names)
    assert configuration.smtp.port == 9005
    assert configuration.listeners.cache == "redis://127.0.0.1:9006/0"
    assert configuration.example_servers["articles"].endswith("article_server.py 9007 9006")
    assert list(configuration.sources) == ["shop", "docs"]


def test_settings_of_several_examples_are_laid_together() -> None:
    table = tomllib.loads(settings_text(["user-onboarding", "cache-invalidation"], 8400))
    assert set(table["example_servers"]) == {"mail", "redis", "articles"}
    assert settings_text(["live-chat"], 8400) == ""


def test_definitions_name_the_ports_of_their_installation(tmp_path: Path) -> None:
    moved = {file.name: file for file in definition_files("third-party", 9000, tmp_path / "x")}
    assert "127.0.0.1:9008" in moved["payments.toml"].read_text()
    assert moved["checkout.py"] == EXAMPLES / "third-party" / "apis" / "checkout.py"
    stay = definition_files("third-party", 8400, tmp_path / "y")
    assert all(EXAMPLES in file.parents for file in stay)


@pytest.mark.parametrize(
    "text", ["nothing.py 1", "../README.md 1", "user-onboarding/mail_server.py", ""]
)
def test_a_server_that_is_none_of_an_example_is_not_run(tmp_path: Path, text: str) -> None:
    make_installation(tmp_path, None, ("live-chat",))
    environment = {"ROWCAST__EXAMPLE_SERVERS__X": text}
    with pytest.raises(ConfigurationError, match=r"in \[example_servers\], expected a file below"):
        example_servers(open_installation(tmp_path, environment))


def test_an_example_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigurationError, match="found the example 'x', expected one of cache"):
        parse_configuration("example = ['x']", {}, "f")
