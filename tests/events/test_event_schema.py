from __future__ import annotations

import pytest

from events.errors import InvalidDataError, InvalidNameError, InvalidSchemaError
from events.event_schema import EventSchemas
from events.json_codec import JsonValue

ORDER: JsonValue = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "at": {"type": "string", "format": "date"},
    },
    "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number"}}}},
}


def test_data_against_the_schema_is_refused_with_its_path() -> None:
    schemas = EventSchemas({"custom.order": ORDER})
    schemas.check("custom.order", {"items": [{"price": 1.5}]})
    schemas.check("custom.other", 7)
    with pytest.raises(InvalidDataError, match="'x' is not of type 'number'") as refused:
        schemas.check("custom.order", {"items": [{"price": 1}, {"price": "x"}]})
    assert refused.value.path == "$.items[1].price"
    with pytest.raises(InvalidDataError, match="'items' is a required property"):
        schemas.check("custom.order", {})
    with pytest.raises(InvalidDataError, match="is not a 'date'"):
        schemas.check("custom.order", {"items": [], "at": "soon"})


def test_what_is_no_schema_is_refused_when_it_is_read() -> None:
    with pytest.raises(InvalidSchemaError, match=r"\$\.type"):
        EventSchemas({"custom.x": {"type": "nonsense"}})
    with pytest.raises(InvalidSchemaError, match="is not a 'regex'"):
        EventSchemas({"custom.x": {"properties": {"a": {"pattern": "("}}}})
    with pytest.raises(InvalidSchemaError, match="expected an object"):
        EventSchemas({"custom.x": [1]})
    with pytest.raises(InvalidNameError):
        EventSchemas({"db.x": {}})


def test_a_reference_to_elsewhere_is_not_fetched() -> None:
    schemas = EventSchemas({"custom.x": {"$ref": "http://127.0.0.1:9/schema.json"}})
    with pytest.raises(InvalidDataError, match="cannot be used"):
        schemas.check("custom.x", 1)
