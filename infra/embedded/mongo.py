"""MongoDB 6 as a replica set of one, which is what change streams need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from infra import artifacts
from infra.embedded.server import listens
from infra.process import ProcessSpec

REPLICA_SET = "rowcast"
_NOT_YET_INITIALISED = 94
_ALREADY_INITIALISED = 23


@dataclass(frozen=True, slots=True)
class EmbeddedMongo:
    """One server; `replica_set` None starts a bare one, which tests of errors need."""

    folder: Path
    port: int
    log: Path
    replica_set: str | None = REPLICA_SET
    name: str = "mongo"

    @property
    def ports(self) -> tuple[int, ...]:
        """The port it takes on loopback."""
        return (self.port,)

    @property
    def uri(self) -> str:
        """Its address for clients."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def prepare(self) -> None:
        """Make its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def process(self) -> ProcessSpec:
        """How it is started; its journal makes any kill safe."""
        argv = (
            str(artifacts.mongod()),
            *("--dbpath", str(self.folder), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "512", "--nounixsocket"),
            # A replica set of one has no peer that a slow, orderly step-down would help.
            *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *(("--replSet", self.replica_set) if self.replica_set else ()),
        )
        return ProcessSpec(self.name, argv, self.log, stop_timeout_s=20.0)

    async def answers(self) -> bool:
        """Whether it takes commands."""
        if not await listens(self.port):
            return False
        async with self._client() as client:
            try:
                await client.admin.command("ping")
            except PyMongoError:
                return False
        return True

    async def initialise(self) -> None:
        """Make it a replica set of one under its present port, and wait until it is primary."""
        if self.replica_set is None:
            return
        member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
        async with self._client() as client:
            try:
                found = await client.admin.command("replSetGetConfig")
                config = found["config"]
                if config["members"][0]["host"] != member["host"]:
                    config["members"] = [member]
                    config["version"] += 1
                    await client.admin.command("replSetReconfig", config, force=True)
            except OperationFailure as error:
                if error.code != _NOT_YET_INITIALISED:
                    raise
                config = {"_id": self.replica_set, "members": [member]}
                await client.admin.command("replSetInitiate", config)
            # A server of a set answers hello with topologyVersion, and holds the next answer
            # back until something changed; that is the server's own way to be waited for.
            hello = await client.admin.command("hello")
            while not hello.get("isWritablePrimary"):
                hello = await client.admin.command(
                    "hello", topologyVersion=hello["topologyVersion"], maxAwaitTimeMS=500
                )

    def _client(self) -> AsyncMongoClient[dict[str, object]]:
        return AsyncMongoClient(self.uri, serverSelectionTimeoutMS=1_000)
