"""Connect's JSON with the schema inside, as it stands on topics of a source in `connect-json`.

Such a record is `{"schema":…,"payload":…}`, key and value alike, and its payload is the plain
envelope with each column as Debezium's logical types have it: a date is a number of days, a
numeric the bytes of its digits. `plain_value` and `plain_key` give the same record as a source
in the plain format would have it, so whoever reads records need know one format only. Pure; the
writer is cdc/connect_encoder.py, and names of types stand here, where both find them.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final, cast

import orjson

from events.json_codec import JsonObject, JsonValue
from events.values.json_documents import encode_json
from events.values.types import encoder_for

DATE: Final = "io.debezium.time.Date"
MICRO_TIME: Final = "io.debezium.time.MicroTime"
MICRO_TIMESTAMP: Final = "io.debezium.time.MicroTimestamp"
ZONED_TIMESTAMP: Final = "io.debezium.time.ZonedTimestamp"
DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"
VARIABLE_DECIMAL: Final = "io.debezium.data.VariableScaleDecimal"
UUID: Final = "io.debezium.data.Uuid"
XML: Final = "io.debezium.data.Xml"
JSON: Final = "io.debezium.data.Json"

TYPE_PARAMETER: Final = "rowcast.type"
"""Parameter of a string that is a value in PostgreSQL's own text: the oid of its built-in type."""

EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_START = b'{"schema":{"type":"struct",'
_ROWS = ("before", "after")
_SCALE_MAX: Final = 16_383
"""https://www.postgresql.org/docs/current/datatype-numeric.html."""


def is_connect_json(data: bytes) -> bool:
    """Whether a record's key or value is Connect's JSON rather than plain."""
    return data.startswith(_START)


def plain_value(value: bytes) -> bytes:
    """The envelope in the plain format; bytes that are not Connect's JSON as they are.

    Raises ValueError where the bytes are Connect's JSON but not as Rowcast writes it.
    """
    if not is_connect_json(value):
        return value
    schema, payload = _parts(value)
    rows = {str(field.get("field")): field for field in _fields(schema)}
    body: dict[str, object] = dict(payload)
    for name in _ROWS:
        row, of_row = payload.get(name), rows.get(name)
        if isinstance(row, dict) and of_row is not None:
            body[name] = _plain_row(of_row, row)
    moved, of_moved = payload.get("moved"), rows.get("moved")
    if isinstance(moved, dict) and of_moved is not None:
        of_key = {str(field.get("field")): field for field in _fields(of_moved)}.get("key", {})
        body["moved"] = {**moved, "key": _plain_row(of_key, _object(moved.get("key")))}
    return orjson.dumps(body)


def plain_key(key: bytes) -> bytes:
    """The record key in the plain format, its columns in their order; raises as plain_value."""
    if not is_connect_json(key):
        return key
    schema, payload = _parts(key)
    return orjson.dumps(_plain_row(schema, payload))


def _parts(data: bytes) -> tuple[JsonObject, JsonObject]:
    try:
        whole = cast("JsonValue", orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise ValueError(f"found no JSON after {data[:40]!r}: {error}") from error
    if not isinstance(whole, dict) or whole.keys() != {"schema", "payload"}:
        raise ValueError(f"found {data[:80]!r}, expected an object of 'schema' and 'payload'")
    return _object(whole["schema"]), _object(whole["payload"])


def _object(value: JsonValue) -> JsonObject:
    if not isinstance(value, dict):
        raise ValueError(f"found {str(value)[:80]}, expected a JSON object")
    return value


def _fields(schema: JsonObject) -> list[JsonObject]:
    fields = schema.get("fields")
    if not isinstance(fields, list):
        raise ValueError(f"found a schema without fields: {str(schema)[:80]}")
    return [_object(field) for field in fields]


def _plain_row(schema: JsonObject, row: JsonObject) -> dict[str, object]:
    plain: dict[str, object] = {}
    for field in _fields(schema):
        name = str(field.get("field"))
        if name in row:
            value = row[name]
            plain[name] = None if value is None else _plain_column(field, value)
    return plain


def _plain_column(schema: JsonObject, value: JsonValue) -> object:
    decode = _LOGICAL.get(str(schema.get("name")))
    parameters = schema.get("parameters")
    try:
        if decode is not None:
            return decode(value, parameters if isinstance(parameters, dict) else {})
        if isinstance(parameters, dict) and TYPE_PARAMETER in parameters:
            oid = int(str(parameters[TYPE_PARAMETER]))
            return orjson.Fragment(encoder_for(oid)(_text(value).encode()))
    except (OverflowError, TypeError) as error:
        raise ValueError(f"found {str(value)[:80]} of {schema.get('name')}: {error}") from error
    return value


def _text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return value


def _whole(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("expected a whole number")
    return value


def _date(value: JsonValue, _parameters: JsonObject) -> object:
    return date.fromordinal(_whole(value) + EPOCH_DAY).isoformat()


def _micro_time(value: JsonValue, _parameters: JsonObject) -> object:
    text = (EPOCH + timedelta(microseconds=_whole(value))).time().isoformat()
    return text.rstrip("0") if "." in text else text


def _micro_timestamp(value: JsonValue, _parameters: JsonObject) -> object:
    moment = EPOCH + timedelta(microseconds=_whole(value))
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def _decimal(value: JsonValue, parameters: JsonObject) -> object:
    return _digits(_text(value), int(str(parameters.get("scale", "0"))))


def _variable_decimal(value: JsonValue, _parameters: JsonObject) -> object:
    parts = _object(value)
    return _digits(_text(parts.get("value")), _whole(parts.get("scale")))


def _digits(unscaled: str, scale: int) -> str:
    if not 0 <= scale <= _SCALE_MAX:
        raise ValueError(f"found the scale {scale}, expected 0 to {_SCALE_MAX}")
    number = int.from_bytes(b64decode(unscaled), "big", signed=True)
    digits = str(abs(number)).rjust(scale + 1, "0")
    sign = "-" if number < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"


def _json(value: JsonValue, _parameters: JsonObject) -> object:
    return orjson.Fragment(encode_json(_text(value).encode()))


_LOGICAL: dict[str, Callable[[JsonValue, JsonObject], object]] = {
    DATE: _date,
    MICRO_TIME: _micro_time,
    MICRO_TIMESTAMP: _micro_timestamp,
    DECIMAL: _decimal,
    VARIABLE_DECIMAL: _variable_decimal,
    JSON: _json,
}
