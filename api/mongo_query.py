"""The query language over MongoDB's documents: conditions, order and bodies as BSON. Pure.

Documents have no types of columns, so a value is what it looks like: `5` a number, `true`, `null`,
`{"$oid": "..."}` Extended JSON, `"5"` in double quotes a string, anything else a string too, but 24
hexadecimal digits an ObjectId or a string, and what is written as ISO 8601 writes times a date or a
string. Each is compared with `$eq` and the like, so that none
is taken for an operator.
https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, cast

from bson import ObjectId, json_util
from bson.errors import BSONError, InvalidId
from bson.json_util import JSONMode, JSONOptions

from api.errors import ApiError
from api.query_tree import Column, Condition, Embed, Field, Logic, OrderTerm, Selection
from api.scanner import Scanner
from events.json_codec import JsonObject, JsonValue, decode

Document = dict[str, object]

OPTIONS: Final = JSONOptions(json_mode=JSONMode.RELAXED, tz_aware=True)
_COMPARISONS: Final = {
    "eq": "$eq",
    "neq": "$ne",
    "isdistinct": "$ne",
    "gt": "$gt",
    "gte": "$gte",
    "lt": "$lt",
    "lte": "$lte",
}
# Of what is said to be Extended JSON; a decimal that is none is an ArithmeticError.
_UNREADABLE: Final = (BSONError, InvalidId, TypeError, ValueError, KeyError, ArithmeticError)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}")
_CODE: Final = frozenset(("$code", "$scope", "$dbPointer", "$ref"))


def filter_document(selection: Selection) -> Document:
    """The filter of a selection."""
    parts = [_logic(logic) for logic in selection.where]
    return {"$and": parts} if parts else {}


def sort_keys(order: tuple[OrderTerm, ...]) -> list[tuple[str, int]]:
    """The order of a selection; MongoDB takes null for less than everything."""
    for term in order:
        if term.relation is not None or term.nulls is not None:
            raise _unsupported("an order by a related document or with nulls first or last")
    return [(field_path(term.field), -1 if term.descending else 1) for term in order]


def read_documents(text: bytes) -> list[Document]:
    """A body as documents; raises ApiError (PGRST102) where it is no Extended JSON."""
    try:
        value = cast("object", json_util.loads(text, json_options=OPTIONS))
    except _UNREADABLE as error:
        raise ApiError(
            400, "PGRST102", "Empty or invalid json", details=f"no Extended JSON: {error}"
        ) from error
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    found: list[Document] = []
    for item in items:
        if not isinstance(item, dict):
            raise ApiError(400, "PGRST102", "Empty or invalid json", details="expected objects")
        document = cast("Document", item)
        for name in document:
            if name.startswith("$") or "\0" in name:
                raise ApiError(
                    400, "PGRST102", f"found the field {name[:80]!r}, expected a name without $"
                )
        found.append(document)
    return found


def shown_document(document: JsonObject, selection: Selection) -> JsonObject:
    """What is selected of a document, which is relaxed Extended JSON."""
    shown: JsonObject = {}
    for item in selection.items:
        if isinstance(item, Embed):
            raise _unsupported("an embedded relation")
        if item.aggregate is not None:
            raise _unsupported(f"the aggregate {item.aggregate}()")
        if item.is_all:
            shown.update(document)
        else:
            shown[item.label] = _cast(_found(document, item.field), item)
    return shown


def field_path(field: Field) -> str:
    """`address.city`."""
    path = ".".join((field.name, *(step.key for step in field.path)))
    if path.startswith("$") or ".$" in path or not path.strip("."):
        raise ApiError(400, "PGRST100", f"found the field {path[:80]!r}, expected a name without $")
    return path


def value_of(text: str) -> object:
    """What a value in the address means."""
    try:
        decoded = decode(text)
        if isinstance(decoded, dict) and _CODE & decoded.keys():
            raise _unsupported("JavaScript or a reference as a value")
        return cast("object", json_util.loads(text, json_options=OPTIONS))
    except _UNREADABLE:
        return text


def _logic(logic: Logic) -> Document:
    if isinstance(logic, Condition):
        written = _condition(logic)
        return {"$nor": [written]} if logic.negated else written
    parts = [_logic(part) for part in logic.parts]
    joined: Document = {f"${logic.kind}": parts}
    return {"$nor": [joined]} if logic.negated else joined


def _condition(condition: Condition) -> Document:  # noqa: PLR0911 - a table of operators
    path, name, text = field_path(condition.field), condition.operator, condition.value
    if condition.quantifier is not None:
        each = [
            _condition(replace(condition, quantifier=None, value=item)) for item in _array(text)
        ]
        joined = "$or" if condition.quantifier == "any" else "$and"
        return {joined: each} if each else {"_id": {"$in": []}}
    match name:
        case "is":
            return {path: _is(text)}
        case "in":
            return {path: {"$in": [one for item in condition.items for one in meant_values(item)]}}
        case "like" | "ilike":
            return {path: {"$regex": _like(text), "$options": "is" if name == "ilike" else "s"}}
        case "match" | "imatch":
            return {path: {"$regex": text, "$options": "i" if name == "imatch" else ""}}
        case "cs":
            value = value_of(_as_list(text))
            wanted = cast("list[object]", value) if isinstance(value, list) else [value]
            return {path: {"$all": wanted}}
        case "ov":
            value = value_of(_as_list(text))
            return {path: {"$in": cast("list[object]", value) if isinstance(value, list) else []}}
        case _:
            pass
    return _comparison(path, name, text)


def _comparison(path: str, name: str, text: str) -> Document:
    comparison = _COMPARISONS.get(name)
    if comparison is None:
        raise _unsupported(f"the operator {name}")
    meant = meant_values(text)
    if comparison in ("$eq", "$ne") and len(meant) > 1:
        return {path: {"$in" if comparison == "$eq" else "$nin": meant}}
    # Only values of one type are compared with one another.
    each: list[Document] = [{path: {comparison: one}} for one in meant]
    return each[0] if len(each) == 1 else {"$or": each}


def meant_values(text: str) -> list[object]:
    """The values that a text may mean, the likeliest first."""
    if _OBJECT_ID.fullmatch(text):
        return [ObjectId(text), text]
    if _DATE.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return [text]
        return [moment if moment.tzinfo else moment.replace(tzinfo=UTC), text]
    return [value_of(text)]


def _is(text: str) -> object:
    if text == "unknown":
        raise _unsupported("is.unknown")
    return {
        "null": {"$eq": None},
        "not_null": {"$ne": None},
        "true": {"$eq": True},
        "false": {"$eq": False},
    }[text]


def _like(text: str) -> str:
    r"""`A*` or `A%` as a regular expression; `_` is any one character, `\_` itself."""
    parts: list[str] = []
    for part in re.findall(r"\\.|.", text, re.DOTALL):
        literal = part[1:] if len(part) > 1 else part
        parts.append({"*": ".*", "%": ".*", "_": "."}.get(part) or re.escape(literal))
    return f"^{''.join(parts)}$"


def _array(text: str) -> list[str]:
    """The items of `{a,"b,c"}`, as PostgreSQL writes arrays."""
    scanner = Scanner(text, "filter")
    scanner.expect("{")
    items: list[str] = []
    while not scanner.take("}"):
        if items:
            scanner.expect(",")
        items.append(scanner.quoted() if scanner.next_is('"') else scanner.until(",}"))
    scanner.end()
    return items


def _as_list(text: str) -> str:
    """`{a,b}` as clients write arrays of PostgreSQL, in JSON."""
    if not (text.startswith("{") and text.endswith("}")) or ":" in text:
        return text
    inner = text[1:-1]
    items = [item.strip() for item in inner.split(",")] if inner.strip() else []
    shown = [item if _is_json(item) else f'"{item}"' for item in items]
    return f"[{','.join(shown)}]"


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except ValueError:
        return False
    return True


def _found(document: JsonObject, field: Field) -> JsonValue:
    value: JsonValue = document.get(field.name)
    for step in field.path:
        index = step.index
        if isinstance(value, list) and index is not None:
            value = value[index] if -len(value) <= index < len(value) else None
        elif isinstance(value, dict):
            value = value.get(step.key)
        else:
            return None
    return value


def _cast(value: JsonValue, item: Column) -> JsonValue:
    last = item.field.path[-1] if item.field.path else None
    if item.cast not in (None, "text"):
        raise _unsupported(f"a cast to {item.cast}")
    as_text = item.cast == "text" or (last is not None and last.as_text)
    if not as_text or value is None or isinstance(value, str):
        return value
    return json_util.dumps(value)


def _unsupported(what: str) -> ApiError:
    return ApiError(
        400,
        "PGRST127",
        f"{what} is not available on MongoDB's collections",
        hint="docs/api.md says what is",
    )


def keys_of(documents: list[Document]) -> bytes:
    """Record keys of documents, joined by commas."""
    return b",".join(
        json_util.dumps({"_id": one.get("_id")}, json_options=OPTIONS).encode() for one in documents
    )
