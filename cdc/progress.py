"""Where a capture stands, as the record on `rowcast.progress` that its next start reads.

One record a source under the key `{"source": "<name>"}`; the value says which kind of source it
is of, so that a source whose kind was changed is noticed rather than misread. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cdc.errors import ProgressFormatError
from events.json_codec import JsonObject, JsonValue, decode_object, encode, encode_key
from events.lsn import Lsn


@dataclass(frozen=True, slots=True)
class PostgresProgress:
    """What of a PostgreSQL log is published.

    `commit` is where the last transaction's commit record begins (in its changes' ids) or, of a
    message of no transaction, where it ends; `end` the position after it: nothing before `end` is
    needed again. `ordinal` None means the whole transaction; n means its changes 1 to n, and
    `end` is then that of the transaction before.
    `gap` is the id of the gap event that stands after it, so that it is not emitted again.
    """

    system_id: str
    timeline: int
    commit: Lsn
    end: Lsn
    ordinal: int | None = None
    gap: str | None = None

    def encode(self) -> bytes:
        """The record's value."""
        return encode(
            {
                "kind": "postgres",
                "system_id": self.system_id,
                "timeline": self.timeline,
                "commit": str(self.commit),
                "end": str(self.end),
                "ordinal": self.ordinal,
                "gap": self.gap,
            }
        )


@dataclass(frozen=True, slots=True)
class MongoProgress:
    """What of a change stream is published.

    `token` (Extended JSON) resumes after the last published event; cluster time (`seconds`,
    `increment`) and `ordinal` (of the last event that bears that time, 0 where none has been
    seen) go on with ids. `deployment` names the replica set or cluster that the token is of.
    `chain` is the header of what is still to come of `transaction`, whose marker is behind the
    token. `gap` is the id of the event that said this token cannot be resumed from.
    """

    token: JsonObject
    seconds: int
    increment: int
    ordinal: int
    deployment: str = ""
    transaction: str | None = None
    chain: str | None = None
    gap: str | None = None

    def encode(self) -> bytes:
        """The record's value."""
        return encode(
            {
                "kind": "mongo",
                "token": self.token,
                "seconds": self.seconds,
                "increment": self.increment,
                "ordinal": self.ordinal,
                "deployment": self.deployment,
                "transaction": self.transaction,
                "chain": self.chain,
                "gap": self.gap,
            }
        )


Progress: TypeAlias = PostgresProgress | MongoProgress


def progress_key(source: str, log: str | None = None) -> bytes:
    """Key of a source's progress record, or of that of a log beside it."""
    return encode_key({"source": source} if log is None else {"source": source, "log": log})


def decode_progress(value: bytes) -> Progress:
    """The progress that a record's value holds.

    Raises ProgressFormatError where it is none.
    """
    try:
        return _read(decode_object(value))
    except ValueError as error:
        raise ProgressFormatError(
            f"the progress record {value[:200]!r} cannot be read: {error}"
        ) from error


def _read(body: JsonObject) -> Progress:
    match body.get("kind"):
        case "postgres":
            return PostgresProgress(
                system_id=_text(body, "system_id"),
                timeline=_count(body, "timeline"),
                commit=Lsn.parse(_text(body, "commit")),
                end=Lsn.parse(_text(body, "end")),
                ordinal=None if body.get("ordinal") is None else _count(body, "ordinal"),
                gap=None if body.get("gap") is None else _text(body, "gap"),
            )
        case "mongo":
            token = body.get("token")
            if not isinstance(token, dict):
                raise ValueError(f"the field 'token' is {token!r}, expected an object")
            return MongoProgress(
                token=token,
                seconds=_count(body, "seconds"),
                increment=_count(body, "increment"),
                ordinal=_count(body, "ordinal"),
                deployment=_text(body, "deployment"),
                transaction=_optional_text(body, "transaction"),
                chain=_optional_text(body, "chain"),
                gap=_optional_text(body, "gap"),
            )
        case other:
            raise ValueError(f"the field 'kind' is {other!r}, expected 'postgres' or 'mongo'")


def _text(body: JsonObject, name: str) -> str:
    value: JsonValue = body.get(name)
    if not isinstance(value, str):
        raise ValueError(f"the field {name!r} is {value!r}, expected a string")
    return value


def _optional_text(body: JsonObject, name: str) -> str | None:
    return None if body.get(name) is None else _text(body, name)


def _count(body: JsonObject, name: str) -> int:
    value: JsonValue = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"the field {name!r} is {value!r}, expected a whole number from 0")
    return value
