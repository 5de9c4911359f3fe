"""PostgreSQL types as Connect has them: the schema of a column and the JSON of its values.

What a logical type cannot hold (NaN, infinities, years before Christ, arrays of arrays) is
refused with UnheldValueError; the row's column is then a string with PostgreSQL's own text, in a
schema of that record's own. Types without a logical type that keeps their values are such strings
always. Pure; https://debezium.io/documentation/reference/connectors/postgresql.html#postgresql-data-types.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime

from events import connect_json
from events.connect_json import EPOCH, EPOCH_DAY, TYPE_PARAMETER
from events.json_codec import JsonObject, encode
from events.values.arrays import array_encoder
from events.values.binary import encode_bytea
from events.values.numbers import encode_boolean, encode_integer
from events.values.text import Encoder, encode_plain, encode_text
from events.values.times import encode_timestamptz
from events.values.types import encoder_for


class UnheldValueError(Exception):
    """A value that its column's logical type cannot hold."""


@dataclass(frozen=True, slots=True)
class ConnectType:
    """How one column stands in Connect's JSON; `text` is the built-in type whose text it has."""

    schema: JsonObject
    encode: Encoder
    oid: int

    def field(self, name: str, *, optional: bool = True) -> bytes:
        """The column's entry in a struct's `fields`."""
        return encode({**self.schema, "optional": optional, "field": name})

    def as_text(self) -> ConnectType:
        """The same column with PostgreSQL's text in a string."""
        return replace(self, schema=_text_schema(self.oid), encode=encode_text)


def connect_type(own_oid: int, oid: int, modifier: int, type_name: str) -> ConnectType:
    """The Connect type of a type, and of the built-in one that has the same text.

    `type_name` is format_type's, for types of extensions; `modifier` is pg_attribute.atttypmod,
    -1 for none.
    """
    if oid == _NUMERIC:
        schema, encoder = _numeric(modifier)
        return ConnectType(schema, encoder, oid)
    found = _TYPES.get(oid)
    if found is None:
        schema = _text_schema(oid)
        if type_name == "citext":
            schema["parameters"] = {_SOURCE_TYPE: "CITEXT"}
        return ConnectType(schema, encode_text, oid)
    schema, encoder = found
    if own_oid != oid and schema["type"] == "array":
        # A sink binds arrays with their element's type, and knows none that users made.
        return ConnectType(_text_schema(oid), encode_text, oid)
    if oid in _SIZED and modifier > _VARHDRSZ:
        size = str(modifier - _VARHDRSZ)
        parameters: JsonObject = {_SOURCE_TYPE: _SIZED[oid], _SOURCE_LENGTH: size}
        sized: JsonObject = {**schema, "parameters": parameters}
        return ConnectType(sized, encoder, oid)
    return ConnectType(schema, encoder, oid)


def _text_schema(oid: int) -> JsonObject:
    # Where the plain format has a string too, nothing more need be known to read it back.
    if encoder_for(oid) in (encode_text, encode_plain):
        return {"type": "string"}
    return {"type": "string", "parameters": {TYPE_PARAMETER: str(oid)}}


def _numeric(modifier: int) -> tuple[JsonObject, Encoder]:
    if modifier < _VARHDRSZ:
        fields: list[JsonObject] = [
            {"type": "int32", "optional": False, "field": "scale"},
            {"type": "bytes", "optional": False, "field": "value"},
        ]
        name = connect_json.VARIABLE_DECIMAL
        return {"type": "struct", "fields": [*fields], "name": name, "version": 1}, _variable
    # The precision in the upper half, the scale in the lower 11 bits, signed since version 15.
    precision = (modifier - _VARHDRSZ) >> 16
    scale = max(0, (((modifier - _VARHDRSZ) & 0x7FF) ^ 1024) - 1024)
    parameters: JsonObject = {
        "scale": str(scale),
        "connect.decimal.precision": str(max(precision, scale)),
    }
    name = connect_json.DECIMAL
    schema: JsonObject = {"type": "bytes", "name": name, "version": 1, "parameters": parameters}
    return schema, _fixed(scale)


def _fixed(scale: int) -> Encoder:
    point = -scale - 1

    def encode_decimal(raw: bytes) -> bytes:
        if scale and raw[point:-scale] != b".":
            raise UnheldValueError
        return b'"' + _unscaled(raw) + b'"'

    return encode_decimal


def _variable(raw: bytes) -> bytes:
    scale = len(raw) - raw.find(b".") - 1 if b"." in raw else 0
    return b'{"scale":%d,"value":"%b"}' % (scale, _unscaled(raw))


def _unscaled(raw: bytes) -> bytes:
    try:
        number = int(raw.replace(b".", b""))
    except ValueError as error:
        # NaN, Infinity, and more digits than Python reads at once.
        raise UnheldValueError from error
    return b64encode(number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _float(raw: bytes) -> bytes:
    if raw[-1] in b"yN":
        raise UnheldValueError
    return raw if raw != b"-0" else b"-0.0"


def _date(raw: bytes) -> bytes:
    if len(raw) != _DATE_LENGTH:
        raise UnheldValueError
    return b"%d" % (date.fromisoformat(raw.decode()).toordinal() - EPOCH_DAY)


def _time(raw: bytes) -> bytes:
    if raw[:2] == b"24":
        raise UnheldValueError
    seconds = int(raw[:2]) * 3_600 + int(raw[3:5]) * 60 + int(raw[6:8])
    return b"%d" % (seconds * 1_000_000 + int((raw[9:] + b"000000")[:6]))


def _timestamp(raw: bytes) -> bytes:
    if raw[10:11] != b" " or raw[-1] == _UPPER_C:
        raise UnheldValueError
    since = datetime.fromisoformat(raw.decode() + "+00:00") - EPOCH
    seconds = since.days * 86_400 + since.seconds
    return b"%d" % (seconds * 1_000_000 + since.microseconds)


def _timestamptz(raw: bytes) -> bytes:
    encoded = encode_timestamptz(raw)
    if encoded.endswith(b'Z"') or raw.endswith(b"infinity"):
        return encoded
    raise UnheldValueError


def _array(element: Encoder) -> Encoder:
    encode_flat = array_encoder(element)

    def encode_array(raw: bytes) -> bytes:
        # Arrays of arrays and bounds other than 1 have no Connect type.
        if raw[:1] != b"{" or raw[1:2] == b"{":
            raise UnheldValueError
        return encode_flat(raw)

    return encode_array


_SOURCE_TYPE, _SOURCE_LENGTH = "__debezium.source.column.type", "__debezium.source.column.length"
_NUMERIC = 1700
_SIZED = {1042: "BPCHAR", 1043: "VARCHAR"}
_VARHDRSZ = 4
_DATE_LENGTH = 10
_UPPER_C = 67


def _logical(kind: str, name: str, source_type: str = "") -> JsonObject:
    schema: JsonObject = {"type": kind, "name": name, "version": 1}
    return {**schema, "parameters": {_SOURCE_TYPE: source_type}} if source_type else schema


def _sourced(kind: str, source_type: str) -> JsonObject:
    return {"type": kind, "parameters": {_SOURCE_TYPE: source_type}}


def _items(kind: str, name: str = "") -> JsonObject:
    items: JsonObject = {"type": kind, "optional": True}
    if name:
        items |= {"name": name, "version": 1}
    return {"type": "array", "items": items}


_Entry = tuple[JsonObject, Callable[[bytes], bytes]]
# By oid in pg_type.dat. The source's type tells the sink which type a table that it makes gets.
_TYPES: dict[int, _Entry] = {
    16: ({"type": "boolean"}, encode_boolean),
    17: ({"type": "bytes"}, encode_bytea),
    20: ({"type": "int64"}, encode_integer),
    21: ({"type": "int16"}, encode_integer),
    23: ({"type": "int32"}, encode_integer),
    26: (_sourced("int64", "OID"), encode_integer),
    114: (_logical("string", connect_json.JSON), encode_text),
    142: (_logical("string", connect_json.XML), encode_text),
    650: (_sourced("string", "CIDR"), encode_text),
    700: ({"type": "float"}, _float),
    701: ({"type": "double"}, _float),
    790: (_sourced("string", "MONEY"), encode_text),
    829: (_sourced("string", "MACADDR"), encode_text),
    869: (_sourced("string", "INET"), encode_text),
    1000: (_items("boolean"), _array(encode_boolean)),
    1005: (_items("int16"), _array(encode_integer)),
    1007: (_items("int32"), _array(encode_integer)),
    1009: (_items("string"), _array(encode_text)),
    1015: (_items("string"), _array(encode_text)),
    1016: (_items("int64"), _array(encode_integer)),
    1022: (_items("double"), _array(_float)),
    1042: ({"type": "string"}, encode_text),
    1043: ({"type": "string"}, encode_text),
    1082: (_logical("int32", connect_json.DATE), _date),
    1083: (_logical("int64", connect_json.MICRO_TIME), _time),
    1114: (_logical("int64", connect_json.MICRO_TIMESTAMP), _timestamp),
    1184: (_logical("string", connect_json.ZONED_TIMESTAMP), _timestamptz),
    2950: (_logical("string", connect_json.UUID), encode_plain),
    2951: (_items("string", connect_json.UUID), _array(encode_plain)),
    3802: (_logical("string", connect_json.JSON, "JSONB"), encode_text),
    3904: (_sourced("string", "INT4RANGE"), encode_text),
    3906: (_sourced("string", "NUMRANGE"), encode_text),
    3908: (_sourced("string", "TSRANGE"), encode_text),
    3910: (_sourced("string", "TSTZRANGE"), encode_text),
    3912: (_sourced("string", "DATERANGE"), encode_text),
    3926: (_sourced("string", "INT8RANGE"), encode_text),
}
