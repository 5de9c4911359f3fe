from __future__ import annotations

from pathlib import Path

import pytest

from rowcast.configuration import parse_configuration, read_configuration
from rowcast.errors import ConfigurationError
from rowcast.mail_settings import smtp_settings
from rowcast.new_configuration import new_configuration


def test_the_file_that_up_writes_says_what_the_defaults_are() -> None:
    configuration = parse_configuration(new_configuration(8400, ["shop"]), {}, "f")
    assert configuration.port_base == 8400
    assert configuration.example == "shop"
    assert {name: source.kind for name, source in configuration.sources.items()} == {
        "shop": "postgres",
        "docs": "mongo",
    }
    assert not any(source.dsn for source in configuration.sources.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[kafka]\nbootstrp = 'x'", r"unknown key 'bootstrp' in \[kafka\].*did you mean 'boot"),
        ("prot_base = 1", "unknown key 'prot_base' at the top.*did you mean 'port_base'"),
        ("[sources.a]\nkind='postgres'\ndns='x'", "unknown key 'dns'.*did you mean 'dsn'"),
        ("[listeners.http]\nalow=[]", r"'alow' in \[listeners.http\].*did you mean 'allow'"),
        ("[smtp]\nhots='x'", r"'hots' in \[smtp\], expected domains, from, host.*mean 'host'"),
        ("[sources.a]\nkind='mysql'", "mysql"),
        ("[sources.a]\ndsn='x'", "missing required field `kind`"),
        ("port_base = 'x'", r"Expected `int`, got `str` - at `\$.port_base`"),
        ("port_base = \n", "is not TOML.*line 1"),
        ("[kafka]\npartitions = 0", r"Expected `int` >= 1 - at `\$.kafka.partitions`"),
        ("[kafka]\nprefix = 'a b'", r"matching regex .* - at `\$.kafka.prefix`"),
        ("[http]\nport = 70000", r"Expected `int` <= 65535 - at `\$.http.port`"),
        ("[sources.a]\nkind='mongo'\nheartbeat_s=0", r">= 0.05 - at `\$.sources"),
        ("[listeners]\nprocesses = 0", r">= 1 - at `\$.listeners.processes`"),
        ("[sources.a]\nkind='mongo'\non_gap='snapshot'", r"in \[sources.a\], expected 'stop'"),
        ("[sources.a]\nkind='mongo'\ntombstones=true", "expected it on a PostgreSQL source"),
        ("[sources.a]\nkind='mongo'\nformat='connect-json'", "expected it on a PostgreSQL source"),
        ("[sources.a]\nkind='postgres'\nformat='avro'", "Invalid enum value 'avro'"),
        ("[sources.a]\nkind='mongo'\nredact=['card']", r"\[sources.a\]: found 'card' in redact"),
        ("[sources.a]\nkind='mongo'\nbody_kb=1000", "found body_kb = 1000, expected 1 to 128"),
        ("[sources.'A b']\nkind='mongo'", "source name 'A b', expected lower-case"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected) as caught:
        parse_configuration(text, {}, "rowcast.toml")
    assert "rowcast.toml" in str(caught.value)


def test_the_environment_lies_over_the_file() -> None:
    configuration = parse_configuration(
        "[sources.shop]\nkind = 'postgres'\n",
        {
            "ROWCAST__PORT_BASE": "9000",
            "ROWCAST__SOURCES__SHOP__DSN": "postgresql://u@h/d",
            "ROWCAST__SOURCES__SHOP__TABLES": '["public.*"]',
            "ROWCAST__SECRETS__API_KEY": "123",
            "ROWCAST__CREDENTIALS__Pay": "456",
            "HOME": "/",
        },
        "f",
    )
    assert configuration.port_base == 9000
    assert configuration.sources["shop"].dsn == "postgresql://u@h/d"
    assert configuration.sources["shop"].tables == ("public.*",)
    assert configuration.secrets == {"API_KEY": "123"}
    assert configuration.definition_secrets == {"API_KEY": "123", "Pay": "456"}


def test_a_variable_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"ROWCAST__PORT_BASE__X.*no table"):
        parse_configuration("port_base = 1", {"ROWCAST__PORT_BASE__X": "1"}, "f")


def test_a_missing_file_is_named_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"rowcast up --dir .*--dir"):
        read_configuration(tmp_path / "rowcast.toml", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("host = 'a.example'", "found '' in `from`, expected one address"),
        ("host = 'a.example'\nfrom = 'a@b.c'\nuser = 'a'\ntls = 'none'", "could read the password"),
        ("host = 'a'\nfrom = 'a@b.c'\npassword_secret = 'NO'", "name of one of .secrets."),
    ],
)
def test_a_mail_server_that_cannot_be_used_is_named(text: str, expected: str) -> None:
    configuration = parse_configuration(f"[smtp]\n{text}", {}, "f")
    with pytest.raises(ConfigurationError, match=expected):
        smtp_settings(configuration.smtp, configuration.secrets)


def test_the_password_may_be_a_secret_and_the_port_is_the_usual_one() -> None:
    text = "[smtp]\nhost='a'\nfrom='Shop <a@b.c>'\nuser='a'\npassword_secret='P'\n[secrets]\nP='1'"
    configuration = parse_configuration(text, {}, "f")
    settings = smtp_settings(configuration.smtp, configuration.secrets)
    assert (settings.port, settings.tls, settings.password) == (587, "starttls", "1")
    assert "'1'" not in repr(settings)
