"""BSON documents as relaxed Extended JSON v2, the form in which Mongo documents stand on Kafka.

libbson writes the text (python-bsonjs); orjson writes it again, since libbson pads it with spaces
and prints 0.1 as 0.10000000000000000555. What libbson refuses or writes differently from the
specification goes the slow way through `bson.json_util`: text that is not UTF-8 (MongoDB does
not check what clients store), years past 9999, documents nested deeper than 200.
https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

from __future__ import annotations

import re
from typing import Final

import bsonjs
import orjson
from bson import BSON, json_util
from bson.codec_options import CodecOptions, DatetimeConversion

from events.json_codec import JsonObject, decode_object, encode

_LENIENT: Final = CodecOptions[dict[str, object]](
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_YEAR_PAST_9999: Final = re.compile(r'"\$date" : "\d{5}')
_OBJECT_ID_KEY: Final = b"\x16\x00\x00\x00\x07_id\x00"


def extended_json(document: bytes) -> bytes:
    """Compact relaxed Extended JSON of a BSON document.

    Raises bson.errors.InvalidBSON where the bytes are no document.
    """
    try:
        text = bsonjs.dumps(document, mode=bsonjs.RELAXED)
        if '"$date" : "' not in text or not _YEAR_PAST_9999.search(text):
            return orjson.dumps(orjson.loads(text))
    except ValueError:
        pass  # not UTF-8 inside, or nested too deeply: the slow way says what it is
    slow = json_util.dumps(
        BSON(document).decode(_LENIENT), json_options=json_util.RELAXED_JSON_OPTIONS
    )
    return orjson.dumps(orjson.loads(slow))


def key_json(document_key: bytes) -> bytes:
    """A record key: a document's key (its `_id`, and the shard key where there is one)."""
    if len(document_key) == 22 and document_key.startswith(_OBJECT_ID_KEY):
        return b'{"_id":{"$oid":"' + document_key[9:21].hex().encode() + b'"}}'
    return extended_json(document_key)


def token_json(token: bytes) -> JsonObject:
    """A resume token as it stands in the progress record."""
    return decode_object(extended_json(token))


def token_from_json(token: JsonObject) -> bytes:
    """The resume token that a progress record holds; raises ValueError where it is none."""
    return bytes(bsonjs.loads(encode(token)))
