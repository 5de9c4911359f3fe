"""For `rowcast doctor`: whether the profilers that tell of reads are set, and reached."""

from __future__ import annotations

from pymongo.errors import PyMongoError

from cdc.finding import Finding
from cdc.mongo_audit import AuditStore, MongoAudit
from cdc.mongo_deployment import MongoClient
from cdc.mongo_profiler import MongoProfiler, connect_member, member_addresses
from cdc.mongo_source import MongoSource

_SUBJECT = "reads by statement"


async def find_profile_risks(client: MongoClient, source: MongoSource) -> list[Finding]:
    """Nothing where no collection is audited; raises what pymongo raises."""
    audit = await AuditStore(client, source.database).find()
    if audit is None or not audit.since_ms:
        return []
    members = await member_addresses(client, source.uri)
    found = [await _look(source, audit, member) for member in members]
    wrong = [finding for finding in found if finding is not None]
    if wrong:
        return wrong
    told = f"{len(audit.since_ms)} collections are audited, on {len(members)} members"
    return [Finding("ok", _SUBJECT, told, "", "")]


async def _look(source: MongoSource, audit: MongoAudit, member: str) -> Finding | None:
    client = connect_member(source.uri, source.name, member)
    try:
        for database in sorted(audit.databases):
            profiling = (await MongoProfiler(client, database).state()).profiling
            if profiling.level == 0:
                return Finding(
                    "warning",
                    _SUBJECT,
                    f"the profiler of {database} on {member} is off",
                    "it on, as capture sets it within a second; reads until then are no events",
                    "see with `rowcast status` whether capture runs",
                )
    except PyMongoError as error:
        return Finding(
            "warning",
            _SUBJECT,
            f"no answer of the member {member} ({str(error).partition(', full error')[0]})",
            "one, since each member tells of the reads that it serves",
            "see whether it runs, and is reached from here under this name",
        )
    finally:
        await client.close()
    return None
