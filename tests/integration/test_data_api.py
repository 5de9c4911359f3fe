"""The data API as its users have it: stock clients, unmodified, on a running installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
from postgrest import APIError, CountMethod, SyncPostgrestClient
from pymongo import MongoClient

from tests.integration.live_installation import LIMIT_S, LiveInstallation, wait_until
from tests.integration.stock_clients import CLIENTS, node

pytestmark = pytest.mark.integration

TOUR = Path(__file__).parent / "supabase" / "tour.mjs"
TABLES: LiteralString = """
    create table towns (
        name text primary key, people int check (people >= 0), tags text[] not null default '{}');
    create table streets (
        id bigint generated always as identity primary key,
        town text references towns on delete cascade, name text);
    create function town_sum(at_least int) returns bigint language sql stable as
        $$ select sum(people) from towns where people >= at_least $$;
    create function big_towns(at_least int) returns setof towns language sql stable as
        $$ select * from towns where people >= at_least $$;
    create table notes (
        id bigint generated always as identity primary key,
        owner text not null default current_setting('request.jwt.claims')::json ->> 'sub',
        body text);
    alter table notes enable row level security;
    create policy own on notes to authenticated using (
        owner = current_setting('request.jwt.claims')::json ->> 'sub');
"""
NO_TABLES: LiteralString = """
    drop function town_sum, big_towns; drop table streets, towns, notes
"""


@pytest.fixture(scope="module")
def shop(live: LiveInstallation) -> Iterator[LiveInstallation]:
    with psycopg.connect(live.status().sources["shop"].dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        yield live
        connection.execute(NO_TABLES)


@contextmanager
def documents_kept(shop: LiveInstallation) -> Generator[None]:
    """Put back what the shop's collections hold: other tests of the installation need it."""
    with MongoClient[dict[str, object]](shop.status().sources["docs"].dsn) as mongo:
        names = [one for one in mongo["shop"].list_collection_names() if one[:8] != "rowcast_"]
        kept = {name: list(mongo["shop"][name].find()) for name in names}
        try:
            yield
        finally:
            for name, documents in kept.items():
                mongo["shop"][name].delete_many({})
                if documents:
                    mongo["shop"][name].insert_many(documents)


def rest(shop: LiveInstallation, *arguments: str) -> httpx.Client:
    """A client with a token made by `rowcast token` with these arguments."""
    headers = {"Authorization": f"Bearer {shop.token(*arguments)}"}
    return httpx.Client(
        base_url=f"http://127.0.0.1:{shop.port_base}/rest/v1", headers=headers, timeout=LIMIT_S
    )


def test_supabase_js_selects_inserts_upserts_updates_deletes_and_calls(
    shop: LiveInstallation,
) -> None:
    url = f"http://127.0.0.1:{shop.port_base}"
    done = subprocess.run(
        (node(), "--input-type=module", "-", url, shop.token(), "shop.public"),
        input=TOUR.read_bytes(),
        cwd=CLIENTS,
        capture_output=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    ulm = {"name": "Ulm", "people": 6, "tags": ["old"]}
    data = {name: call["data"] for name, call in found.items()}
    assert data["insert"] == [{**ulm, "people": 5}]
    assert found["insert many"]["status"] == 201
    assert data["upsert"] == ulm
    assert data["select"] == [{"name": "Rom", "people": 9}, {"name": "Ulm", "people": 6}]
    assert found["select"]["count"] == 2
    assert data["or"] == data["in"] == [{"name": "Rom"}, {"name": "Ulm"}]
    assert data["contains"] == data["schema"] == [{"name": "Ulm"}]
    assert data["update"] == [{"people": 10}]
    assert data["embed"] == {"name": "Hauptstraße", "town": {"people": 6}}
    assert data["many"] == [{"name": "Ulm", "streets": [{"name": "Hauptstraße"}]}]
    assert data["rpc"] == data["rpc get"] == 16
    assert data["rpc rows"] == [{"name": "Rom"}, {"name": "Ulm"}]
    assert (data["head"], found["head"]["count"]) == (None, 3)
    assert (data["maybe"], found["maybe"]["error"]) == (None, None)
    assert found["single"]["error"]["code"] == "PGRST116"
    assert data["csv"] == "name,people\nUlm,6\n"
    assert data["delete"] == [{"name": "Bonn"}]
    assert (found["missing"]["status"], found["missing"]["error"]["code"]) == (404, "PGRST205")
    assert (found["conflict"]["status"], found["conflict"]["error"]["code"]) == (409, "23505")


def test_postgrest_py_selects_inserts_upserts_updates_deletes_and_calls(
    shop: LiveInstallation,
) -> None:
    with SyncPostgrestClient(f"http://127.0.0.1:{shop.port_base}/rest/v1") as typed:
        client: Any = typed  # its own types of JSON are only partly known
        client.auth(shop.token())
        towns = client.from_("towns")
        made = towns.insert([{"name": "Jena", "people": 3}, {"name": "Gera", "people": 4}])
        assert [row["name"] for row in rows(made.execute())] == ["Jena", "Gera"]
        towns.upsert({"name": "Jena", "people": 7}).execute()
        found = towns.select("name,people", count=CountMethod.exact).eq("name", "Jena").execute()
        assert (found.data, found.count) == ([{"name": "Jena", "people": 7}], 1)
        changed = towns.update({"tags": ["a b", 'c"d']}).eq("name", "Gera").execute()
        assert rows(changed)[0]["tags"] == ["a b", 'c"d']
        single = towns.select("people").ov("tags", ["a b"]).single().execute()
        assert single.data == {"people": 4}
        assert client.rpc("town_sum", {"at_least": 0}).execute().data
        with pytest.raises(APIError) as refused:
            towns.insert({"name": "X", "people": -1}).execute()
        assert refused.value.code == "23514"
        gone = towns.delete().in_("name", ["Jena", "Gera"]).execute()
        assert len(rows(gone)) == 2


def rows(response: Any) -> list[dict[str, Any]]:
    return response.data


def test_row_security_keeps_rows_apart_and_each_call_is_an_event(shop: LiveInstallation) -> None:
    with rest(shop, "--subject", "ada") as ada, rest(shop, "--subject", "eve") as eve:
        made = ada.post(
            "/notes", json={"body": "mine"}, headers={"Prefer": "return=representation"}
        )
        (note,) = made.json()
        assert note["owner"] == "ada"
        assert [row["body"] for row in ada.get("/notes").json()] == ["mine"]
        assert eve.get("/notes").json() == []
        changed = eve.patch("/notes", params={"id": f"eq.{note['id']}"}, json={"body": "hers"})
        assert (changed.status_code, changed.headers["content-range"]) == (204, "*/*")
        forged = eve.post("/notes", json={"body": "x", "owner": "ada"})
        assert (forged.status_code, forged.json()["code"]) == (403, "42501")
        nobody = httpx.get(f"{ada.base_url}notes", headers={"apikey": shop.token("--role", "anon")})
        assert (nobody.status_code, nobody.json()["code"]) == (401, "42501")
    events = shop.wait_for_events(lambda event: event.type.startswith("api.data.shop.notes."), 6)
    told = {
        (event.type, event.body["outcome"], str(event.body["keys"]))
        for event in events
        if event.body["caller"]
    }
    keys = str([{"id": note["id"]}])
    assert told == {
        ("api.data.shop.notes.created", "ok", keys),
        ("api.data.shop.notes.read", "ok", keys),
        ("api.data.shop.notes.read", "ok", "[]"),
        ("api.data.shop.notes.updated", "ok", "[]"),
        ("api.data.shop.notes.created", "refused", "None"),
        ("api.data.shop.notes.read", "refused", "None"),
    }
    (created,) = (event for event in events if event.body["status"] == 201)
    caller = {"role": "authenticated", "subject": "ada", "address": "127.0.0.1"}
    assert created.body["caller"] == caller
    assert created.id == made.headers["rowcast-call"]


def test_a_table_made_since_is_there_at_once(shop: LiveInstallation) -> None:
    with rest(shop) as client, psycopg.connect(shop.status().sources["shop"].dsn) as connection:
        assert client.get("/late").status_code == 404
        connection.execute("create table late (id int primary key)")
        connection.commit()
        wait_until(lambda: client.get("/late").status_code == 200 or None, "the table late")
        connection.execute("alter table late add column note text")
        connection.commit()
        wait_until(
            lambda: client.post("/late", json={"id": 1, "note": "x"}).status_code == 201 or None,
            "the column note",
        )
        connection.execute("drop table late")
        connection.commit()
        assert client.get("/late").status_code == 404


def test_without_kafka_a_write_is_refused_and_undone_and_told_of_later(
    shop: LiveInstallation,
) -> None:
    with rest(shop, "--subject", "kafkaless") as client:
        assert client.post("/towns", json={"name": "before"}).status_code == 201
        with shop.without_kafka():
            refused = client.post("/towns", json={"name": "during"})
            read = client.get("/towns", params={"name": "in.(before,during)", "select": "name"})
            at_once = client.post("/towns", json={"name": "during"})
        assert (refused.status_code, refused.json()["code"]) == (503, "RC001")
        assert (at_once.status_code, at_once.json()["code"]) == (503, "RC001")
        assert read.json() == [{"name": "before"}]
        wait_until(
            lambda: client.post("/towns", json={"name": "after"}).status_code == 201 or None,
            "a write that is taken again",
        )
        client.delete("/towns", params={"name": "in.(before,after)"})

    calls = {
        refused.headers["rowcast-call"]: "refused",
        read.headers["rowcast-call"]: "ok",
    }
    # What Kafka had taken in before it was stopped may say "ok" of the write first.
    told = shop.wait_for_events(
        lambda event: calls.get(str(event.body.get("call")), "") == event.body.get("outcome"), 2
    )
    assert {str(event.body["call"]) for event in told} == set(calls)


def test_whatever_schemathesis_makes_of_the_description_is_no_error_of_ours(
    shop: LiveInstallation,
) -> None:
    url = f"http://127.0.0.1:{shop.port_base}/rest/v1/"
    command = (Path(sys.executable).parent / "schemathesis", "run", url)
    options = ("--checks", "not_a_server_error", "--phases", "fuzzing", "--no-color")
    examples = ("--max-examples", os.environ.get("FUZZ_EXAMPLES", "3"))
    token = shop.token("--role", "service_role")  # which may use collections too
    with documents_kept(shop):
        done = subprocess.run(
            (*command, "-H", f"Authorization: Bearer {token}", *options, *examples),
            capture_output=True,
            text=True,
            check=False,
            timeout=3_600,
        )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr
    assert "/rpc/town_sum" in httpx.get(url).json()["paths"]
    assert httpx.get(url).json()["paths"]["/reviews"] == {}
    described = httpx.get(url, headers={"apikey": token}).json()["paths"]["/reviews"]
    assert set(described) == {"get", "post", "patch", "delete"}
