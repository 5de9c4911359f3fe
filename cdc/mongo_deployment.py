"""Which MongoDB a URI leads to: its identity, its version, and whether it has change streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from cdc.errors import CaptureConfigError
from cdc.mongo_failure import explain, not_a_replica_set, not_initiated

SERVER_TIMEOUT_MS: Final = 5_000
# Longer than a getMore may wait for events; a connection that is dead but open ends with it.
_SOCKET_TIMEOUT_MS: Final = 60_000
OLDEST_VERSION: Final = (6, 0)

MongoClient = AsyncMongoClient[dict[str, Any]]  # pyright: ignore[reportExplicitAny] - pymongo's own document type
"""What commands answer is read field by field, with its type checked where it matters."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A replica set or sharded cluster.

    `identity` tells it from others as far as the user may see: a resume token means nothing
    elsewhere. `splits_events` says that it has $changeStreamSplitLargeEvent.
    """

    identity: str
    version: tuple[int, int, int]

    @property
    def splits_events(self) -> bool:
        """6.0.9 and later 6.0, 7.0 and later; not the rapid releases between."""
        return (6, 0, 9) <= self.version < (6, 1, 0) or self.version >= (7, 0, 0)


def connect(uri: str, source: str, *, socket_timeout_ms: int = _SOCKET_TIMEOUT_MS) -> MongoClient:
    """A client; nothing is sent yet. Raises CaptureConfigError for a URI that is none."""
    try:
        return AsyncMongoClient(
            uri,
            appname=f"rowcast-capture-{source}",
            serverSelectionTimeoutMS=SERVER_TIMEOUT_MS,
            connectTimeoutMS=SERVER_TIMEOUT_MS,
            socketTimeoutMS=socket_timeout_ms,
            retryReads=False,
            # The getMore in flight notices a lost server; a second watch on it would only be
            # another connection.
            serverMonitoringMode="poll",
        )
    except (PyMongoError, ValueError) as error:
        raise CaptureConfigError(
            found=f"a URI that is none of MongoDB's ({error})",
            expected="mongodb://[user:password@]host[:port][/?options]",
            mend=f"correct sources.{source}.uri in rowcast.toml",
        ) from error


async def find_deployment(client: MongoClient, source: str) -> Deployment:
    """What the client is connected to.

    Raises CaptureConfigError where it does not answer, has no change streams or is too old.
    """
    try:
        hello = await client.admin.command("hello")
        build = await client.admin.command("buildInfo")
    except PyMongoError as error:
        raise explain(error, source) from error
    if hello.get("isreplicaset"):  # how a member says that it has no configuration yet
        raise not_initiated(source, f"{hello.get('info', hello)}")
    sharded = hello.get("msg") == "isdbgrid"
    if not sharded and "setName" not in hello:
        raise not_a_replica_set(source)
    numbers = cast("list[int]", build["versionArray"])
    version = (numbers[0], numbers[1], numbers[2])
    if version[:2] < OLDEST_VERSION:
        raise CaptureConfigError(
            found=f"MongoDB {build['version']} (source {source!r})",
            expected="MongoDB 6.0 or later, which has pre-images and expanded change events",
            mend="upgrade the server",
        )
    identity = await (_cluster_identity(client) if sharded else _set_identity(client, hello))
    return Deployment(identity, version)


async def _set_identity(client: MongoClient, hello: Mapping[str, object]) -> str:
    """The set's name, and its id where the user may read the set's configuration.

    Two sets often bear one name (rs0), so the name alone would not tell a replaced deployment.
    """
    name = str(hello["setName"])
    try:
        answer = await client.admin.command("replSetGetConfig")
    except OperationFailure:
        return f"{name}/?"
    return f"{name}/{answer['config']['settings']['replicaSetId']}"


async def _cluster_identity(client: MongoClient) -> str:
    try:
        version = await client["config"]["version"].find_one({})
    except OperationFailure:
        version = None
    return f"sharded/{'?' if version is None else version.get('clusterId', '?')}"


def same_deployment(one: str, other: str) -> bool:
    """Whether two identities may be of one deployment: what either could not see is not held
    against it.
    """
    name, _, set_id = one.rpartition("/")
    other_name, _, other_id = other.rpartition("/")
    return name == other_name and (set_id == other_id or "?" in (set_id, other_id))
