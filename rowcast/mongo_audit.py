"""`rowcast audit` of a MongoDB's collections: their profilers are set, and capture reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pymongo.errors import (
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
)

from cdc.errors import CaptureConfigError
from cdc.mongo import MongoSource
from cdc.mongo_audit import AuditStore, Before, MongoAudit
from cdc.mongo_deployment import MongoClient, connect, find_deployment
from cdc.mongo_failure import explain
from cdc.mongo_profiler import MongoProfiler, connect_member, member_addresses
from cdc.profile_progress import PROFILER_LOG, ProfilerProgress
from cdc.progress import progress_key
from cdc.topic_reading import read_to_end
from events.cluster import Cluster
from events.topic import reads_topic
from rowcast.errors import ConfigurationError

_CAPTURE_WAIT_S: Final = 15.0
_POLL_S: Final = 0.1


async def enable(mongo: MongoSource, collection: str) -> list[str]:
    """Make reads of a collection events, by statement; what to tell the user.

    Raises CaptureConfigError where it cannot be.
    """
    source = mongo.name
    database, name = _place(mongo, collection)
    client = connect(mongo.uri, source)
    try:
        await find_deployment(client, source)
        members = await _members(client, mongo)
        await _check_collection(client, mongo, database, name)
        away = await _unreached(mongo, members, database)
        store = AuditStore(client, mongo.database)
        await store.add(f"{database}.{name}")
        reached = [member for member in members if member not in away]
        for member in reached:
            await _set_member(mongo, store, member, database)
    except PyMongoError as error:
        raise _explained(error, source) from error
    finally:
        await client.close()
    topic = reads_topic(source, database, name)
    lines = [f"reads of {database}.{name} are events by statement on {topic} from now on"]
    lines.append(f"profiled on {', '.join(reached)}; each read is a line in mongod's log too")
    lines += [f"not reached now, profiled once capture reaches it: {member}" for member in away]
    return lines


async def disable(
    mongo: MongoSource,
    cluster: Cluster,
    collection: str,
    *,
    lose_unread: bool = False,
    wait_s: float = _CAPTURE_WAIT_S,
) -> list[str]:
    """Make them events no longer; the profilers are as they were before the audit.

    Waits until capture has told what was read until now. Raises CaptureConfigError, with nothing
    changed, where it has not in time, unless that may be lost.
    """
    source = mongo.name
    database, name = _place(mongo, collection)
    client = connect(mongo.uri, source)
    try:
        store = AuditStore(client, mongo.database)
        audit = await store.find()
        if audit is None or f"{database}.{name}" not in audit.since_ms:
            raise CaptureConfigError(
                found=f"{database}.{name}, whose reads are not audited",
                expected="a collection whose reads are",
                mend=f"rowcast audit list {source} names those that are",
            )
        profilers = [f"{member}/{at}" for member, at in audit.before if at == database]
        # Capture must run, and have read what was until now; that it once had says nothing.
        audit = await store.ask_anew()
        told = await _until_told(cluster, source, audit, profilers, wait_s)
        if not (told or lose_unread):
            raise CaptureConfigError(
                found=f"capture of {source} that has not read the profiler within {wait_s:g} s; "
                f"reads of {database}.{name} are events still",
                expected="it to run and to reach each member, so that what was read until now is "
                "told",
                mend=f"start it (rowcast status), then rowcast audit disable {source} {collection} "
                "again; with --lose-unread it ends at once, and reads not yet told are lost",
            )
        left = await store.remove(f"{database}.{name}")
        await _set_back(mongo, store, left, [database])
        told = told and await _until_told(cluster, source, left, profilers, wait_s)
        # Capture may have set them once more before it saw that nobody asks.
        lines = await _set_back(mongo, store, left, [database], clean=True)
        if not left.since_ms:
            await store.drop()
    except PyMongoError as error:
        raise _explained(error, source) from error
    finally:
        await client.close()
    if not told:
        lines.append(
            f"capture of {source} did not read the profiler within {wait_s:g} s: reads "
            "that it had not told by then are no events (does it run? rowcast status)"
        )
    said = f"reads of {database}.{name} are no events any more"
    return [said if lines else f"{said}; nothing of the audit is left", *lines]


async def audited(mongo: MongoSource) -> list[str]:
    """The audited collections of a source, a line each."""
    client = connect(mongo.uri, mongo.name)
    try:
        audit = await AuditStore(client, mongo.database).find()
    except PyMongoError as error:
        raise _explained(error, mongo.name) from error
    finally:
        await client.close()
    return [f"{name}  by statement" for name in sorted(audit.since_ms)] if audit else []


def _place(mongo: MongoSource, collection: str) -> tuple[str, str]:
    """Database and collection; the source's database where none is said."""
    database = mongo.database
    first, _, rest = collection.partition(".")
    if database is None:
        if not rest:
            raise ConfigurationError(
                f"found the collection {collection!r}, expected database.collection: the source "
                f"{mongo.name!r} captures all databases"
            )
        return first, rest
    return (database, rest) if first == database and rest else (database, collection)


async def _members(client: MongoClient, source: MongoSource) -> list[str]:
    members = await member_addresses(client, source.uri)
    if not members:
        raise CaptureConfigError(
            found=f"a sharded cluster (source {source.name!r})",
            expected="a replica set: mongos has no profiler, and shards are not reached through it",
            mend="audit the reads of its applications through the data API",
        )
    return members


async def _unreached(source: MongoSource, members: Sequence[str], database: str) -> list[str]:
    """The members that do not answer; raises what pymongo raises where none does, or one refuses.

    Asked before anything is changed, so that nothing is left of what is refused.
    """
    away: list[str] = []
    for member in members:
        client = connect_member(source.uri, source.name, member)
        try:
            await MongoProfiler(client, database).state()
        except ConnectionFailure:
            away.append(member)
            if len(away) == len(members):
                raise
        finally:
            await client.close()
    return away


async def _check_collection(
    client: MongoClient, source: MongoSource, database: str, name: str
) -> None:
    cursor = await client[database].list_collections(filter={"name": name})
    if name.startswith("system.") or not [found async for found in cursor]:
        raise CaptureConfigError(
            found=f"no collection {name!r} in the database {database!r} of {source.name}",
            expected="a collection or a view, whose name is written as it is",
            mend="make it first, or correct the name",
        )


async def _set_member(source: MongoSource, store: AuditStore, member: str, database: str) -> None:
    client = connect_member(source.uri, source.name, member)
    try:
        profiler = MongoProfiler(client, database)
        before = (await profiler.state()).profiling
        made = await profiler.make_collection(source.profile_mb)
        await store.note(member, database, Before(before, made))
        audit = await store.find()
        if audit is None:
            return  # somebody has disabled it meanwhile
        names = audit.names(database)
        noted = audit.before[member, database].profiling
        await profiler.set(noted.with_reads(database, names | await profiler.views_on(names)))
    finally:
        await client.close()


async def _set_back(
    source: MongoSource,
    store: AuditStore,
    audit: MongoAudit,
    databases: Sequence[str],
    *,
    clean: bool = False,
) -> list[str]:
    """Set the profilers to what is still audited; `clean` takes away what is left of the others.

    What could not be done is told in lines.
    """
    lines: list[str] = []
    for (member, database), before in audit.before.items():
        if database not in databases:
            continue
        names = audit.names(database)
        client = connect_member(source.uri, source.name, member)
        try:
            profiler = MongoProfiler(client, database)
            if names:
                views = await profiler.views_on(names)
                await profiler.set(before.profiling.with_reads(database, names | views))
                continue
            await profiler.set(before.profiling)
            if clean:
                if before.made:
                    with suppress(NotPrimaryError):
                        await profiler.drop_collection()
                    if await profiler.collection_id() is not None:
                        lines.append(
                            f"{database}.system.profile stays on {member}, a secondary, which "
                            "drops nothing; it is capped, and nothing is added to it"
                        )
                await store.forget(member, database)
        except PyMongoError as error:
            lines.append(f"the profiler of {database} on {member} was not set back: {error}")
        finally:
            await client.close()
    return lines


async def _until_told(
    cluster: Cluster, source: str, audit: MongoAudit, profilers: Sequence[str], wait_s: float
) -> bool:
    """Whether capture has told all that these profilers had written down until now."""
    key = progress_key(source, PROFILER_LOG)
    deadline = time.monotonic() + wait_s
    while True:
        records = await read_to_end(cluster, cluster.topics.progress, 1)
        values = [record.value for record in records if record.key == key]
        last = values[-1] if values else None
        if last is not None:
            progress = ProfilerProgress.decode(last)
            if progress.has_told(audit.id, audit.version, profilers):
                return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL_S)


def _explained(error: PyMongoError, source: str) -> Exception:
    if isinstance(error, OperationFailure) and error.code == 13:
        return CaptureConfigError(
            found=f"a user without the right ({str(error).partition(', full error')[0]})",
            expected="the actions enableProfiler, find on system.profile, and insert",
            mend="grant dbAdmin and readWrite on the database to the source's user",
        )
    return explain(error, source)
