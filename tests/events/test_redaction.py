from __future__ import annotations

from events.json_codec import JsonValue
from events.redaction import Redaction


def test_a_secret_is_masked_wherever_it_stands() -> None:
    redaction = Redaction(["s3cret-key", "s3cret-key-longer"])
    assert redaction.text("a s3cret-key-longer b s3cret-key") == "a [secret] b [secret]"
    assert redaction.value({"h": ["x s3cret-key"], "s3cret-key": 1}) == {
        "h": ["x [secret]"],
        "[secret]": 1,
    }


def test_a_secret_of_few_characters_does_not_mask_common_text() -> None:
    assert Redaction(["a", ""]).text("an apple") == "an apple"


def test_without_secrets_values_are_left_as_they_are() -> None:
    value: JsonValue = {"a": ["b"]}
    assert Redaction([]).value(value) is value
