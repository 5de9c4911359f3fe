from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from cdc.postgres_doctor import examine_postgres
from cdc.postgres_risks import Facts, find_risks
from cdc.postgres_source import PostgresSource
from events.json_codec import JsonObject

SOURCE = PostgresSource("shop", "", "rowcast_shop", "rowcast_shop")
OWN: JsonObject = {"slot_name": "rowcast_shop", "active": False, "wal_status": "reserved"}
PUBLICATION: JsonObject = {
    "pubinsert": True,
    "pubupdate": True,
    "pubdelete": True,
    "pubtruncate": True,
}
GIB = 1 << 30


@pytest.mark.parametrize(
    ("facts", "severity", "subject", "mend"),
    [
        (Facts({"fsync": "off"}), "warning", "fsync", "set fsync = on"),
        (
            Facts({"idle_replication_slot_timeout": "3600"}),
            "warning",
            "idle_replication_slot_timeout",
            "= 0; select pg_reload_conf()",
        ),
        (Facts({"wal_sender_timeout": "0"}), "warning", "wal_sender_timeout", "= '60s'"),
        (Facts({"wal_sender_timeout": "1000"}), "warning", "wal_sender_timeout", "= '60s'"),
        (
            Facts({"max_slot_wal_keep_size": "1024"}, [{**OWN, "safe_wal_size": GIB // 4}]),
            "warning",
            "max_slot_wal_keep_size",
            "= '4096MB'",
        ),
        (
            Facts({"max_slot_wal_keep_size": "1024"}, [{**OWN, "wal_status": "unreserved"}]),
            "error",
            "max_slot_wal_keep_size",
            "start capture",
        ),
        (
            Facts(slots=[{"slot_name": "old", "active": False, "retained": 2 * GIB}]),
            "warning",
            "slot",
            "pg_drop_replication_slot('old')",
        ),
        (
            Facts(publication={**PUBLICATION, "pubdelete": False}),
            "warning",
            "publication",
            "set (publish = 'insert, update, delete, truncate')",
        ),
        (
            Facts(publication={**PUBLICATION, "pubviaroot": False}, has_partitions=True),
            "warning",
            "publication",
            "publish_via_partition_root = true",
        ),
        (Facts(unlogged=[("public", "t")]), "warning", "table", '"public"."t" set logged'),
        (Facts(old_transactions=[(7, 7_200)]), "warning", "transaction", "terminate_backend(7)"),
        (Facts(prepared=["x"]), "warning", "transaction", "rollback prepared 'x'"),
    ],
)
def test_what_can_lose_changes_or_disk_is_found_with_its_mend(
    facts: Facts, severity: str, subject: str, mend: str
) -> None:
    (finding,) = find_risks(facts, SOURCE)
    assert (finding.severity, finding.subject) == (severity, subject)
    assert mend in finding.mend


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),
        Facts(
            {"fsync": "on", "wal_sender_timeout": "60000", "max_slot_wal_keep_size": "-1"}, [OWN]
        ),
        Facts({"max_slot_wal_keep_size": "1024"}, [{**OWN, "safe_wal_size": GIB}]),
        Facts(slots=[{"slot_name": "other", "active": True, "retained": 2 * GIB}]),
        Facts(publication={**PUBLICATION, "pubviaroot": True}, has_partitions=True),
    ],
)
def test_a_server_without_risks_has_no_finding(facts: Facts) -> None:
    assert find_risks(facts, SOURCE) == []


def test_an_unlogged_table_that_nobody_wants_is_no_risk() -> None:
    assert find_risks(Facts(unlogged=[("public", "t")]), replace(SOURCE, tables=("a.*",))) == []


@pytest.mark.integration
@pytest.mark.anyio
async def test_the_doctor_finds_the_risks_of_every_version(
    versioned_dsn: str,
) -> None:
    source = replace(SOURCE, dsn=versioned_dsn)
    with psycopg.connect(versioned_dsn, autocommit=True) as connection:
        connection.execute("create unlogged table fleeting (id int primary key)")
        connection.execute("create publication rowcast_shop with (publish = 'insert')")
        findings = await examine_postgres(source)
        connection.execute("drop publication rowcast_shop")
        connection.execute("drop table fleeting")
    mends = [finding.mend for finding in findings if finding.severity != "ok"]
    assert 'alter table "public"."fleeting" set logged' in mends
    assert any("set (publish = " in mend for mend in mends)
    assert not [finding for finding in findings if finding.severity == "error"]
