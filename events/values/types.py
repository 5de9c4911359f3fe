"""Which encoder a type has, by its oid in pg_type.

Built-in types have fixed oids (src/include/catalog/pg_type.dat). Domains, enums and arrays of
one's own have not: a TypeCatalogue is fed with their rows of pg_type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from events.values.arrays import array_encoder
from events.values.binary import encode_bytea
from events.values.json_documents import encode_json
from events.values.numbers import encode_boolean, encode_float, encode_integer
from events.values.text import Encoder, encode_plain, encode_text
from events.values.times import encode_timestamp, encode_timestamptz

_ENCODERS: dict[int, Encoder] = {
    16: encode_boolean,
    17: encode_bytea,
    20: encode_integer,
    21: encode_integer,
    23: encode_integer,
    26: encode_integer,
    114: encode_json,
    700: encode_float,
    701: encode_float,
    1082: encode_plain,  # date
    1083: encode_plain,  # time
    1114: encode_timestamp,
    1184: encode_timestamptz,
    1266: encode_plain,  # timetz
    1700: encode_plain,  # numeric
    2950: encode_plain,  # uuid
    3802: encode_json,
}

# Array type -> element type, of the types whose values are often in arrays.
_ARRAYS: dict[int, int] = {
    199: 114,
    1000: 16,
    1001: 17,
    1002: 18,
    1003: 19,
    1005: 21,
    1007: 23,
    1009: 25,
    1014: 1042,
    1015: 1043,
    1016: 20,
    1020: 603,
    1021: 700,
    1022: 701,
    1028: 26,
    1040: 829,
    1041: 869,
    1115: 1114,
    1182: 1082,
    1183: 1083,
    1185: 1184,
    1187: 1186,
    1231: 1700,
    1270: 1266,
    2951: 2950,
    3807: 3802,
}

_ARRAY_OF = {element: array for array, element in _ARRAYS.items()}
_BOX = 603
_TEXT, _TEXT_ARRAY = 25, 1009
# FirstNormalObjectId of src/include/access/transam.h: oids of types that users make.
_FIRST_OWN = 16_384
_DEPTH_LIMIT = 16


def encoder_for(type_oid: int) -> Encoder:
    """The encoder of a built-in type; text for any other."""
    encoder = _BUILT_IN.get(type_oid)
    return encoder if encoder is not None else encode_text


_BUILT_IN: dict[int, Encoder] = _ENCODERS | {
    array: array_encoder(_ENCODERS.get(element, encode_text), b";" if element == _BOX else b",")
    for array, element in _ARRAYS.items()
}


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A row of pg_type (https://www.postgresql.org/docs/current/catalog-pg-type.html).

    `kind` is typtype, `base` typbasetype, `element` typelem, `category` typcategory, `delimiter`
    typdelim of the type itself.
    """

    oid: int
    kind: str
    base: int
    element: int
    category: str
    delimiter: str = ","


class TypeCatalogue:
    """Encoders of the types whose rows it was fed, and of all built-in ones."""

    def __init__(self, rows: Iterable[TypeRow] = ()) -> None:
        self._rows: dict[int, TypeRow] = {}
        self._encoders: dict[int, Encoder] = {}
        self.add(rows)

    def add(self, rows: Iterable[TypeRow]) -> None:
        """Know these types as well; a newer row of a type replaces the older."""
        self._rows.update((row.oid, row) for row in rows)
        self._encoders.clear()

    def unknown(self, type_oids: Iterable[int]) -> set[int]:
        """Which of the types, and of those they are made of, have no row yet."""
        missing: set[int] = set()
        for type_oid in type_oids:
            oid = type_oid
            for _ in range(_DEPTH_LIMIT):
                if oid == 0 or oid in _BUILT_IN:
                    break
                row = self._rows.get(oid)
                if row is None:
                    missing.add(oid)
                    break
                oid = row.base if row.kind == "d" else row.element if _is_array(row) else 0
        return missing

    def encoder(self, type_oid: int) -> Encoder:
        """The encoder of a type; text where nothing is known of it."""
        encoder = self._encoders.get(type_oid)
        if encoder is None:
            encoder = self._encoders[type_oid] = self._resolve(type_oid, _DEPTH_LIMIT)
        return encoder

    def built_in(self, type_oid: int) -> int:
        """The built-in type that has the same text and the same JSON: a domain's base, and so on.

        That of text where there is none but text's own.
        """
        return self._built_in(type_oid, _DEPTH_LIMIT)

    def _built_in(self, type_oid: int, depth: int) -> int:
        row = self._rows.get(type_oid)
        if row is None or depth == 0:
            return type_oid if row is None and type_oid < _FIRST_OWN else _TEXT
        if row.kind == "d":
            return self._built_in(row.base, depth - 1)
        if _is_array(row):
            element = self._rows.get(row.element)
            if element is not None and element.delimiter != ",":
                return _TEXT
            return _ARRAY_OF.get(self._built_in(row.element, depth - 1), _TEXT_ARRAY)
        return type_oid if type_oid < _FIRST_OWN else _TEXT

    def _resolve(self, type_oid: int, depth: int) -> Encoder:
        built_in = _BUILT_IN.get(type_oid)
        if built_in is not None:
            return built_in
        row = self._rows.get(type_oid)
        if row is None or depth == 0:
            return encode_text
        if row.kind == "d":
            return self._resolve(row.base, depth - 1)
        if _is_array(row):
            element = self._rows.get(row.element)
            delimiter = element.delimiter if element is not None else ","
            return array_encoder(self._resolve(row.element, depth - 1), delimiter.encode())
        return encode_text


def _is_array(row: TypeRow) -> bool:
    return row.category == "A" and row.element != 0
