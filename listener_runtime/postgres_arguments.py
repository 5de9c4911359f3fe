"""The arguments of the `db.*` calls, as a guest writes them."""

from __future__ import annotations

import msgspec


class _OfStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`source` may be left out where `tx`, from `db.begin`, is given."""

    sql: str
    params: list[object] = []
    source: str | None = None
    tx: int | None = None


class Execute(_OfStatement, frozen=True):
    """`db.execute`."""


class FetchOne(_OfStatement, frozen=True):
    """`db.fetch_one`."""


class Fetch(_OfStatement, frozen=True, kw_only=True):
    """`db.fetch`."""

    limit: int | None = None


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`db.begin`."""

    source: str


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`db.commit` and `db.rollback`."""

    tx: int
