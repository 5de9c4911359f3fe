"""Documents, filters and pipelines of a guest: relaxed Extended JSON v2 in and out, checked.

Documents look as they do in change events, so that ObjectIds and dates survive both ways. What
could run code in the server, write from a reading call, or reach Rowcast's own and MongoDB's inner
collections is refused, however deep it stands. Pure.
https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, cast

import bsonjs
import msgspec
import orjson
from bson import BSON, Code, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidId
from bson.json_util import JSONMode, JSONOptions
from bson.raw_bson import RawBSONDocument

from events.json_codec import JsonObject, JsonValue, decode_object, encode
from listener_runtime.errors import HostCallError

CHAIN_COLLECTION: Final = "rowcast_chain"
"""Where cdc/mongo_stream looks for the chain of a transaction."""

Document = dict[str, object]

_OPTIONS: Final = JSONOptions(
    json_mode=JSONMode.RELAXED,
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_LENIENT: Final = CodecOptions[dict[str, object]](
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_YEAR_PAST_9999: Final = re.compile(r'"\$date" : "\d{5}')
_JAVASCRIPT: Final = frozenset(("$where", "$function", "$accumulator"))
_READING_STAGES: Final = frozenset(
    (
        *("$addFields", "$bucket", "$bucketAuto", "$count", "$densify", "$facet"),
        *("$fill", "$geoNear", "$graphLookup", "$group", "$limit", "$lookup", "$match"),
        *("$project", "$redact", "$replaceRoot", "$replaceWith", "$sample", "$search", "$set"),
        *("$setWindowFields", "$skip", "$sort", "$sortByCount", "$unionWith", "$unset"),
        "$unwind",
    )
)
_UPDATING_STAGES: Final = frozenset(
    ("$addFields", "$project", "$replaceRoot", "$replaceWith", "$set", "$unset")
)


def collection_name(name: str) -> str:
    """The name of a collection that a guest may use; raises HostCallError for any other."""
    if not name or "\0" in name or "$" in name or len(name.encode(errors="replace")) > 200:
        raise HostCallError(f"found the collection name {name[:80]!r}, expected a name without $")
    if name == CHAIN_COLLECTION or name.startswith("system."):
        raise HostCallError(f"the collection {name} belongs to Rowcast or MongoDB itself")
    return name


def document(value: object, what: str) -> Document:
    """A guest's JSON object as a document; `what` names it in errors, which are HostCallErrors."""
    try:
        found = cast("object", json_util.loads(encode(value), json_options=_OPTIONS))
    except (BSONError, InvalidId, TypeError, ValueError, KeyError, OverflowError) as error:
        raise HostCallError(f"{what} is no Extended JSON: {error}") from error
    if not isinstance(found, dict):
        raise HostCallError(f"found {type(found).__name__} as {what}, expected an object")
    checked = cast("Document", found)
    _refuse_code(checked, what)
    return checked


def update_document(value: object) -> Document | list[Document]:
    """What an update does: operators, or a pipeline of stages that set fields."""
    if isinstance(value, list):
        stages = cast("list[object]", value)
        if not stages:
            raise HostCallError("found an update without stages, expected at least one")
        return [_stage(stage, _UPDATING_STAGES, "update") for stage in stages]
    found = document(value, "update")
    if not found or not all(name.startswith("$") for name in found):
        raise HostCallError(
            'found an update without operators, expected such as {"$set": {"field": 1}}'
        )
    return found


def pipeline(stages: list[object]) -> list[Document]:
    """The stages of an aggregation that only reads."""
    return [_stage(stage, _READING_STAGES, "pipeline") for stage in stages]


def sort_keys(value: Mapping[str, object] | list[object]) -> Sequence[tuple[str, int]]:
    """Sort keys from {"name": 1} or [["name", -1]]."""
    pairs: list[object] = (
        value if isinstance(value, list) else [[name, way] for name, way in value.items()]
    )
    try:
        return msgspec.convert(pairs, list[tuple[str, Literal[1, -1]]])
    except msgspec.ValidationError as error:
        raise HostCallError(f'sort: {error}; expected {{"field": 1}} or [["field", -1]]') from error


def json_document(found: RawBSONDocument) -> JsonObject:
    """A document as relaxed Extended JSON."""
    try:
        text = bsonjs.dumps(bytes(found.raw), mode=bsonjs.RELAXED)
        if '"$date" : "' not in text or not _YEAR_PAST_9999.search(text):
            return decode_object(text)
    except ValueError:
        pass  # not UTF-8 inside, or nested too deeply: the slow way says what it is
    decoded = BSON(found.raw).decode(_LENIENT)
    return decode_object(json_util.dumps(decoded, json_options=_OPTIONS))


def json_value(value: object) -> JsonValue:
    """Any BSON value, such as an _id, as relaxed Extended JSON."""
    return cast("JsonValue", orjson.loads(json_util.dumps(value, json_options=_OPTIONS)))


def _stage(value: object, allowed: frozenset[str], what: str) -> Document:
    stage = document(value, f"a stage of the {what}")
    _check_stage(stage, allowed)
    return stage


def _check_stage(stage: object, allowed: frozenset[str]) -> None:
    """Refuse a stage that is not allowed, has one inside, or reads where a guest may not."""
    fields = cast("Document", stage) if isinstance(stage, dict) else {}
    names = list(fields)
    if len(names) != 1 or names[0] not in allowed:
        shown = ", ".join(names) or "without a name"
        raise HostCallError(
            f"found the stage {shown[:80]}, expected one of {', '.join(sorted(allowed))}"
        )
    name, body = next(iter(fields.items()))
    inner: list[object] = []
    match name, body:
        case "$unionWith", str():
            collection_name(body)
        case (("$lookup" | "$graphLookup" | "$unionWith"), dict()):
            wanted = cast("Document", body)
            target = wanted.get("coll" if name == "$unionWith" else "from")
            if target is not None and not isinstance(target, str):
                raise HostCallError(f"found no name in {name}, expected a collection's name")
            if target is not None:
                collection_name(target)
            inner = [wanted.get("pipeline", [])]
        case "$facet", dict():
            inner = list(cast("Document", body).values())
        case _:
            pass
    for stages in inner:
        if not isinstance(stages, list):
            raise HostCallError(f"found no list in {name}, expected a pipeline")
        for part in cast("list[object]", stages):
            _check_stage(part, allowed)


def _refuse_code(value: object, what: str) -> None:
    if isinstance(value, Code):
        raise HostCallError(f"found JavaScript in {what}, which is not run")
    if isinstance(value, list):
        for item in cast("list[object]", value):
            _refuse_code(item, what)
    elif isinstance(value, dict):
        for name, inner in cast("Document", value).items():
            if name in _JAVASCRIPT:
                raise HostCallError(f"found {name} in {what}, whose JavaScript is not run")
            _refuse_code(inner, what)
