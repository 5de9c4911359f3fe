"""A command of MongoDB as the text of a read event, its values left out unless they are asked for.

Pure. Names of fields, collections and operators stay, and bounds; every other value is `?`, a list
of values `["?"]`. What is new in a later MongoDB is a value until it is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, cast

from bson import json_util
from bson.json_util import JSONMode, JSONOptions

from cdc.profile_entry import GET_MORE, READ_VERBS, Document, ProfileEntry

StatementForm: TypeAlias = Literal["normalized", "full", "none"]

_OPTIONS: Final = JSONOptions(json_mode=JSONMode.RELAXED)
_HIDDEN: Final = "?"
_SESSION: Final = frozenset(
    ("lsid", "txnNumber", "startTransaction", "autocommit", "readConcern", "writeConcern")
)
_KEPT: Final = {
    *READ_VERBS,
    *(
        GET_MORE,
        "findandmodify",
        "mapreduce",
        "key",
        "limit",
        "skip",
        "batchSize",
        "singleBatch",
        "tailable",
    ),
    *("awaitData", "new", "upsert", "remove", "allowDiskUse", "maxTimeMS", "cursor"),
}
_KEPT_IN_STAGES: Final[Mapping[str, frozenset[str]]] = {
    "$lookup": frozenset(("from", "localField", "foreignField", "as")),
    "$graphLookup": frozenset(("from", "connectFromField", "connectToField", "as", "maxDepth")),
    "$unionWith": frozenset(("coll",)),
}
_KEPT_STAGES: Final = frozenset(("$limit", "$skip", "$count", "$unionWith"))
_DIRECTIONS: Final = frozenset(("sort", "projection", "fields", "$sort", "$project"))


def statement_text(entry: ProfileEntry, form: StatementForm) -> str | None:
    """The statement as `form` has it, None where it is not to be told or not known whole."""
    if form == "none":
        return None
    if entry.truncated is not None:
        return entry.truncated if form == "full" else None
    said = {
        name: value
        for name, value in entry.command.items()
        if name not in _SESSION and not name.startswith("$")
    }
    if form == "normalized":
        said.pop("comment", None)
        said = {name: _argument(name, value) for name, value in said.items()}
    return json_util.dumps(said, json_options=_OPTIONS, ensure_ascii=False)


def _argument(name: str, value: object) -> object:
    if name in _KEPT:
        return value
    if name == "pipeline" and isinstance(value, list):
        return [_stage(stage) for stage in cast("list[object]", value)]
    if name in _DIRECTIONS:
        return _directions(value)
    return _shape(value)


def _stage(stage: object) -> object:
    if not isinstance(stage, Mapping):
        return _shape(stage)
    found: dict[str, object] = {}
    for name, value in cast("Document", stage).items():
        kept = _KEPT_IN_STAGES.get(name)
        if kept is not None and isinstance(value, Mapping):
            found[name] = {
                inner: one
                if inner in kept and isinstance(one, (str, int))
                else _argument("", one)
                if inner != "pipeline"
                else _argument(inner, one)
                for inner, one in cast("Document", value).items()
            }
        elif name in _KEPT_STAGES and isinstance(value, (str, int, float)):
            found[name] = value
        elif name == "$facet" and isinstance(value, Mapping):
            facets = cast("Document", value)
            found[name] = {label: _argument("pipeline", one) for label, one in facets.items()}
        else:
            found[name] = _argument(name if name in _DIRECTIONS else "", value)
    return found


def _directions(value: object) -> object:
    """1, -1 and 0 of an order or a projection say nothing of a document."""
    if not isinstance(value, Mapping):
        return _shape(value)
    return {
        name: one if isinstance(one, (int, float)) and one in (-1, 0, 1) else _shape(one)
        for name, one in cast("Document", value).items()
    }


def _shape(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _shape(one) for name, one in cast("Document", value).items()}
    if isinstance(value, list):
        shapes = [_shape(one) for one in cast("list[object]", value)]
        return list({str(shape): shape for shape in shapes}.values())
    return _HIDDEN
