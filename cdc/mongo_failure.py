"""What MongoDB's errors mean for a capture: a setting to mend, a gap, or a lost connection.

Codes: https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/base/error_codes.yml
"""

from __future__ import annotations

from typing import Final

from pymongo.errors import (
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from cdc.errors import CaptureConfigError, CaptureError, SourceLostError

TOO_LARGE: Final = 10334
_AUTHENTICATION_FAILED: Final = (18, 8000)
_UNAUTHORIZED: Final = 13
_REFUSED: Final = (*_AUTHENTICATION_FAILED, _UNAUTHORIZED)
_GAP_CODES: Final = {
    136: "the oplog has rolled over the resume token",
    222: "the shard that the stream read from was removed",
    260: "the resume token belongs to another stream or another deployment",
    280: "the change stream cannot be resumed",
    286: "the oplog no longer reaches back to the resume token",
    TOO_LARGE: "an event is larger than the 16 MB that MongoDB sends at once",
    40585: "the resume token is not in the oplog",
    40615: "the resume token is not in the oplog",
    50811: "the resume token cannot be read by this server",
}

INITIATE_MEND: Final = (
    "start mongod with --replSet rs0 and run rs.initiate() once in mongosh "
    "(a replica set of one is enough), or give the URI of a replica set"
)


class StreamBrokenError(Exception):
    """The change stream cannot go on from the progress; `reason` says why, `code` is MongoDB's."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def gap_in(error: PyMongoError) -> StreamBrokenError | None:
    """The gap that an error tells of, None where it is another error."""
    if not isinstance(error, OperationFailure) or error.code not in _GAP_CODES:
        return None
    return StreamBrokenError(f"{_GAP_CODES[error.code]} ({error})", error.code)


def explain(error: PyMongoError, source: str) -> CaptureError:
    """The error to raise for one of pymongo's."""
    setting = f"sources.{source}.uri in rowcast.toml"
    if isinstance(error, ServerSelectionTimeoutError):
        if "RSGhost" in str(error):
            return not_initiated(source, str(error))
        return CaptureConfigError(
            found=f"no MongoDB server that answers ({error})",
            expected=f"the primary of a replica set, or a mongos, at {setting}",
            mend=f"start MongoDB, or correct the address in {setting}",
        )
    if isinstance(error, OperationFailure) and error.code in _REFUSED:
        return _refused(error, setting)
    if isinstance(error, ConfigurationError):
        return CaptureConfigError(
            found=f"a URI that pymongo cannot use ({error})",
            expected="mongodb://[user:password@]host[:port][/?options]",
            mend=f"correct {setting}",
        )
    return SourceLostError(f"the connection to MongoDB of {source!r} broke: {error!r}")


def _refused(error: OperationFailure, setting: str) -> CaptureConfigError:
    if error.code == _UNAUTHORIZED:
        return CaptureConfigError(
            found=f"a user without the right ({error})",
            expected="the actions find, changeStream and listCollections on what is captured "
            "(and collMod, for pre-images)",
            mend="grant readWrite and dbAdmin on the database, or readAnyDatabase and "
            f"dbAdminAnyDatabase for a whole deployment, to the user of {setting}",
        )
    return CaptureConfigError(
        found=f"that MongoDB refuses the user or the password ({error})",
        expected="a user that may log in",
        mend=f"correct user, password and authSource in {setting}",
    )


def not_a_replica_set(source: str) -> CaptureConfigError:
    """The error for a single server: it keeps no oplog."""
    return CaptureConfigError(
        found=f"a MongoDB server that is no member of a replica set (source {source!r})",
        expected="a replica set or a sharded cluster, since change streams read the oplog",
        mend=INITIATE_MEND,
    )


def not_initiated(source: str, found: str) -> CaptureConfigError:
    """The error for a member of a replica set that has no configuration yet."""
    return CaptureConfigError(
        found=f"a MongoDB server whose replica set is not initiated (source {source!r}: {found})",
        expected="a replica set with a primary",
        mend="run rs.initiate() once in mongosh",
    )
