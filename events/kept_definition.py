"""What all kinds of definitions on `rowcast.definitions` have in common.

A record's key names kind and name, `{"api":"checkout"}`; its value is the definition's JSON. Who
reads the topic passes over the kinds that it does not know, so that an older service goes on
beside a newer one. Pure.
"""

from __future__ import annotations

from typing import Protocol, Self

import msgspec

from events.json_codec import encode


class KeptDefinition(Protocol):
    """A definition of any kind. `version` is 0 in a file and counts changes on Kafka."""

    @property
    def kind(self) -> str:
        """What stands in the record's key: `listener`, `api` and so on."""
        ...

    @property
    def name(self) -> str:
        """Unique among the definitions of all kinds: chains and commands name them by it."""
        ...

    @property
    def version(self) -> int:
        """One more than the version before it."""
        ...

    @property
    def enabled(self) -> bool:
        """Whether it is in force."""
        ...

    @property
    def uses(self) -> tuple[str, ...]:
        """The modules that its code imports."""
        ...

    @property
    def summary(self) -> str:
        """What it is for, on one line."""
        ...

    def encode(self) -> bytes:
        """The record's value."""
        ...

    def succeeding(self, before: KeptDefinition | None, now_ms: int) -> KeptDefinition:
        """What is to stand on Kafka after `before`; `before` itself where nothing is changed."""
        ...


class VersionedDefinition(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """A base for kinds whose definitions are versioned and nothing more."""

    name: str
    version: int = 0
    enabled: bool = True

    @property
    def kind(self) -> str:
        """What stands in the record's key; each kind says its own."""
        raise NotImplementedError

    @property
    def uses(self) -> tuple[str, ...]:
        """The modules that its code imports."""
        return ()

    @property
    def summary(self) -> str:
        """What it is for, on one line."""
        return ""

    def encode(self) -> bytes:
        """The record's value."""
        return encode(msgspec.to_builtins(self))

    def succeeding(self, before: KeptDefinition | None, now_ms: int) -> Self:
        """What is to stand on Kafka after `before`; `before` itself where nothing is changed."""
        del now_ms
        if not isinstance(before, type(self)):
            return msgspec.structs.replace(self, version=1)
        if msgspec.structs.replace(self, version=before.version) == before:
            return before
        return msgspec.structs.replace(self, version=before.version + 1)


def definition_record_key(kind: str, name: str) -> bytes:
    """The key of a definition's record."""
    return encode({kind: name})


def kind_of_key(key: bytes) -> str | None:
    """The kind that a record's key names; None where it is no such key."""
    try:
        found = msgspec.json.decode(key, type=dict[str, str])
    except msgspec.DecodeError:
        return None
    return next(iter(found)) if len(found) == 1 else None
