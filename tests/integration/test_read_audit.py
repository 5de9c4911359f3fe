"""`rowcast audit` as a user has it: a read is an event, a listener runs, a client hears of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pymongo import MongoClient

from cdc.pgaudit_reads import capture_reads
from cdc.postgres_source import PostgresSource
from cdc.statement_read import StatementDetail
from events.json_codec import encode
from rowcast import read_audit
from rowcast.installation import open_installation
from tests.integration.live_installation import LiveInstallation, next_event

pytestmark = pytest.mark.integration


def test_a_read_row_runs_a_listener_reaches_a_client_and_is_found_again(
    live: LiveInstallation,
) -> None:
    dsn = live.status().sources["shop"].dsn
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("create table if not exists patients (id int primary key, name text)")
        owner.execute("insert into patients values (7, 'Ada') on conflict do nothing")
        owner.execute("drop role if exists nurse")
        owner.execute("create role nurse login password 'x'")
        owner.execute("grant select on patients to nurse")
    live.apply(
        "watch_reads",
        """
        # /// rowcast
        # on = "db.shop.public.patients.read"
        # ///
        async def main(event, g):
            return [event["key"], event["who"]["user"], event["read"]["exact"]]
        """,
    )
    refused = live.command("audit", "enable", "shop", "patients", "--rows", check=False)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    said = live.command("audit", "enable", "shop", "patients", "--rows", "--force").stdout
    assert "shop.public.patients.reads" in said
    assert "public.patients  by row" in live.command("audit", "list", "shop").stdout
    with live.websocket({"pattern": "db.shop.public.patients.read"}) as client:
        with psycopg.connect(make_conninfo(dsn, user="nurse", password="x")) as reader:
            assert reader.execute("select name from patients where id = 7").fetchall() == [("Ada",)]
        event = next_event(client)
    assert (event["type"], event["key"]) == ("db.shop.public.patients.read", {"id": 7})
    (run, *_) = live.wait_for_runs("watch_reads")
    assert run["result"] == [{"id": 7}, "nurse", "row"]
    look = ("reads", "--table", "patients", "--since", "1d", "--json")
    for condition in (("--key", "7"), ("--key", '{"id": 7}'), ("--subject", "nurse")):
        (found,) = live.command(*look, *condition).stdout.splitlines()
        assert json.loads(found)["who"]["user"] == "nurse"
    assert live.command(*look[:-1], "--key", "8").stdout.strip() == "no reads"
    unknown = live.command("reads", "--table", "patient", check=False)
    assert unknown.returncode == 2
    assert "found no topic shop.public.patient.reads" in unknown.stderr
    live.command("audit", "disable", "shop", "patients")
    assert "no table of shop is audited" in live.command("audit", "list", "shop").stdout


def test_rows_and_documents_of_the_data_api_are_reads_with_their_keys(
    live: LiveInstallation,
) -> None:
    live.apply(
        "watch_api_reads",
        """
        # /// rowcast
        # on = "db.*.*.*.read"
        # where = { read = { by = ["data-api"] }, keys = { id = [2] } }
        # ///
        async def main(event, g):
            return [event["keys"], event["who"]["subject"]]
        """,
    )
    # Collections are open to service_role alone unless the configuration says otherwise.
    token = live.token("--subject", "cy", "--role", "service_role")
    url = f"http://127.0.0.1:{live.port_base}/rest/v1"
    headers = {"Authorization": f"Bearer {token}"}
    registrations = [{"pattern": "db.shop.public.users.read"}, {"pattern": "db.docs.shop.*.read"}]
    with live.websocket(*registrations) as client:
        rows = httpx.get(f"{url}/users?select=name&id=in.(1,2)&order=id", headers=headers)
        assert rows.status_code == 200
        assert next_event(client)["keys"] == [{"id": 1}, {"id": 2}]
        documents = httpx.get(f"{url}/reviews?limit=1", headers=headers)
        assert documents.status_code == 200
        (document,) = documents.json()
        event = next_event(client)
    assert (event["type"], event["key"]) == ("db.docs.shop.reviews.read", {"_id": document["_id"]})
    (run, *_) = live.wait_for_runs("watch_api_reads")
    assert run["result"] == [[{"id": 1}, {"id": 2}], "cy"]
    for table, key in (("users", "2"), ("reviews", encode({"_id": document["_id"]}).decode())):
        look = ("reads", "--table", table, "--key", key, "--subject", "cy", "--since", "1d")
        (found,) = live.command(*look, "--json").stdout.splitlines()
        assert json.loads(found)["read"] == {"by": "data-api", "exact": "row"}
    live.command("delete", "watch_api_reads")


def test_a_read_of_any_mongodb_client_runs_a_listener_and_reaches_a_client(
    live: LiveInstallation,
) -> None:
    live.apply(
        "watch_documents",
        """
        # /// rowcast
        # on = "db.docs.shop.reviews.read"
        # where = { read = { by = ["profiler"] } }
        # ///
        async def main(event, g):
            return [event["statement"]["command"], event["rows"]]
        """,
    )
    refused = live.command("audit", "enable", "docs", "reviews", "--rows", check=False)
    assert refused.returncode == 2
    assert "expected --statements" in refused.stderr
    said = live.command("audit", "enable", "docs", "reviews", "--statements").stdout
    assert "docs.shop.reviews.reads" in said
    with live.websocket({"pattern": "db.docs.shop.reviews.read"}) as client:
        uri = live.status().sources["docs"].dsn
        with MongoClient[dict[str, object]](uri, appname="ward") as reader:
            assert reader["shop"]["reviews"].find_one({"_id": 1}) is not None
        # The data API tells of its own reads, by key; the profiler does not tell them again.
        headers = {"Authorization": f"Bearer {live.token('--role', 'service_role')}"}
        url = f"http://127.0.0.1:{live.port_base}/rest/v1/reviews?_id=eq.2"
        assert httpx.get(url, headers=headers).status_code == 200
        events = [next_event(client) for _ in range(2)]
    assert sorted(str(event["read"]) for event in events) == [
        "{'by': 'data-api', 'exact': 'row'}",
        "{'by': 'profiler', 'exact': 'statement'}",
    ]
    (run,) = live.wait_for_runs("watch_documents")
    assert run["result"] == ["find", 1]
    assert "shop.reviews  by statement" in live.command("audit", "list", "docs").stdout
    said = live.command("audit", "disable", "docs", "reviews").stdout
    assert "nothing of the audit is left" in said
    assert "no collection of docs is audited" in live.command("audit", "list", "docs").stdout
    shown = live.command("reads", "--source", "docs", "--table", "reviews", "--since", "1d").stdout
    (line,) = [line for line in shown.splitlines() if "with ward" in line]
    assert '"filter": {"_id": "?"}' in line
    assert "(1 rows)" in line
    live.command("delete", "watch_documents")


@contextmanager
def reading(live: LiveInstallation, dsn: str) -> Generator[None]:
    """Capture of the log of another server as that of the source shop."""
    cluster = open_installation(live.folder, port_base=live.port_base).cluster
    source = PostgresSource("shop", dsn, "shop", "shop")
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    running = threading.Thread(
        target=loop.run_until_complete,
        args=(capture_reads(source, cluster, StatementDetail(), stop=stop),),
    )
    running.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        running.join()
        loop.close()


def test_a_statement_that_reads_runs_a_listener_reaches_a_client_and_is_found_again(
    live: LiveInstallation, audited_dsn: str
) -> None:
    refused = live.command("audit", "enable", "shop", "users", "--statements", check=False)
    assert refused.returncode == 2
    assert "shared_preload_libraries" in refused.stderr
    assert "logging_collector" in refused.stderr
    with psycopg.connect(audited_dsn, autocommit=True) as owner:
        owner.execute("create table wards (id int primary key, name text)")
        owner.execute("create role matron login password 'x'")
        owner.execute("grant select on wards to matron")
    live.apply(
        "watch_statements",
        """
        # /// rowcast
        # on = "db.shop.public.wards.read"
        # where = { read = { exact = ["statement"] } }
        # ///
        async def main(event, g):
            return [event["key"], event["who"]["user"], event["statement"]["text"]]
        """,
    )
    # The commands ask the running service, whose server of this source is another one.
    there = open_installation(live.folder, {"ROWCAST__SOURCES__SHOP__DSN": audited_dsn})
    how = {"rows": False, "statements": True}
    said = asyncio.run(read_audit.enable(there, "shop", "wards", force=False, **how))
    assert "by statement on shop.public.wards.reads" in said
    listed = asyncio.run(read_audit.audited(there, "shop"))
    assert read_audit.audited_text("shop", listed) == "public.wards  by statement"
    reader = make_conninfo(audited_dsn, user="matron", password="x", application_name="ward round")
    with (
        reading(live, audited_dsn),
        live.websocket({"pattern": "db.shop.public.wards.read"}) as client,
    ):
        with psycopg.connect(reader) as connection:
            connection.execute("select name from wards where name = 'Nightingale'")
        event = next_event(client)
        said = asyncio.run(read_audit.disable(there, "shop", "wards", rows=False, statements=False))
    assert (event["key"], event["read"]) == (None, {"by": "pgaudit", "exact": "statement"})
    assert "nothing of the audit is left" in said
    (run, *_) = live.wait_for_runs("watch_statements")
    assert run["result"] == [None, "matron", "select name from wards where name = ?"]
    look = ("reads", "--source", "shop", "--table", "wards", "--since", "1d")
    shown = live.command(*look, "--subject", "matron").stdout
    assert "select name from wards where name = ?" in shown
    assert "matron with ward round from 127.0.0.1" in shown
    assert live.command(*look, "--key", "7").stdout.strip() == "no reads"
    assert "Nightingale" not in live.command(*look, "--json").stdout
    live.command("delete", "watch_statements")
