"""The arguments of the `mongo.*` calls, as a guest writes them."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Json: TypeAlias = dict[str, object]


class _OfCollection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    source: str
    collection: str


class Find(_OfCollection, frozen=True, kw_only=True):
    """`mongo.find`."""

    filter: Json = {}
    projection: Json | None = None
    sort: Json | list[object] | None = None
    skip: _Count = 0
    limit: _Count | None = None


class FindOne(_OfCollection, frozen=True, kw_only=True):
    """`mongo.find_one`."""

    filter: Json = {}
    projection: Json | None = None
    sort: Json | list[object] | None = None
    skip: _Count = 0


class Count(_OfCollection, frozen=True, kw_only=True):
    """`mongo.count`."""

    filter: Json = {}


class Aggregate(_OfCollection, frozen=True, kw_only=True):
    """`mongo.aggregate`."""

    pipeline: list[object]


class Insert(_OfCollection, frozen=True, kw_only=True):
    """`mongo.insert`."""

    documents: list[object]

    def content(self) -> tuple[object, ...]:
        """What makes a repetition the same step."""
        return ("insert", self.collection, self.documents)


class Update(_OfCollection, frozen=True, kw_only=True):
    """`mongo.update`."""

    filter: Json
    update: Json | list[object]
    upsert: bool = False
    many: bool = False

    def content(self) -> tuple[object, ...]:
        """What makes a repetition the same step."""
        return ("update", self.collection, self.filter, self.update, self.upsert, self.many)


class Delete(_OfCollection, frozen=True, kw_only=True):
    """`mongo.delete`."""

    filter: Json
    many: bool = False

    def content(self) -> tuple[object, ...]:
        """What makes a repetition the same step."""
        return ("delete", self.collection, self.filter, self.many)


MongoArguments: TypeAlias = Find | FindOne | Count | Aggregate | Insert | Update | Delete
