"""The query language, writes, functions and errors, each against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from api.settings import PostgresApiSource
from events.token import make_token
from infra.embedded.postgres import EmbeddedPostgres
from tests.api.api_bench import SECRET, bearer, drop_database, new_database, serving

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

TABLES: LiteralString = """
    create type mood as enum ('sad', 'ok', 'happy');
    create table people (
        id int primary key, name text not null unique, age int check (age >= 0), mood mood,
        boss int references people, home jsonb, tags text[], span int4range,
        b text default 'b',
        words tsvector generated always as (to_tsvector('english', name)) stored);
    create table profiles (person int primary key references people, bio text);
    create table teams (id int primary key, name text, lead int references people,
        deputy int references people);
    create table members (team int references teams, person int references people,
        role text, primary key (team, person));
    create table "odd ""name" ("a.b" int primary key, "from" text, "ä(ö)" text);
    create table keyless (n int);
    create table secrets (id int generated always as identity primary key, owner text, body text);
    alter table secrets enable row level security;
    create policy write_only on secrets for insert to authenticated with check (true);
    create table deferred (id int primary key, next int references deferred deferrable
        initially deferred);
    create schema other;
    grant usage on schema other to authenticated;
    create table other.things (id int primary key, name text);
    grant all on all tables in schema public, other to authenticated, service_role;
    grant select (name) on people to anon;
    insert into people (id, name, age, mood, boss, home, tags, span) values
        (1, 'Ada Running', 36, 'happy', null, '{"city": {"name": "London"}, "n": [1, 2]}',
            '{a,b}', '[1,5)'),
        (2, 'Bob', 20, 'sad', 1, '{"city": {"name": "Rom, Italia"}}', '{b}', '[5,9)'),
        (3, 'Cy "C"', null, 'ok', 1, null, null, null);
    insert into profiles values (1, 'first');
    insert into teams values (1, 'red', 1, 2), (2, 'blue', 2, null), (3, 'empty', null, null);
    insert into members values (1, 1, 'x'), (1, 2, 'y'), (2, 2, 'x');
    insert into other.things values (1, 'there');
    create function add(x int, y int default 1) returns int language sql immutable
        as 'select x + y';
    create function everybody(min_age int default 0) returns setof people language sql stable
        as 'select * from people where age >= min_age';
    create function pair() returns table (a int, "b c" text) language sql stable
        as $$ values (1, 'x'), (2, 'y') $$;
    create function display(people) returns text language sql stable
        as $$ select 'Dr. ' || $1.name $$;
    create function total(variadic n int[]) returns int language sql immutable
        as 'select sum(x)::int from unnest(n) x';
    create function numbers(n int) returns setof int language sql as
        'select generate_series(1, n)';
    create function somebody() returns people language sql stable
        as 'select * from people where id = 1';
    create function nothing() returns void language sql as '';
    create function add_person(id int, name text) returns int language sql as
        'insert into people (id, name) values ($1, $2) returning id';
    create function whoami() returns json language sql stable as
        $$ select json_build_object('role', current_user, 'sub',
            current_setting('request.jwt.claims')::json ->> 'sub',
            'method', current_setting('request.method')) $$;
    create function teapot() returns void language plpgsql as
        $$ begin raise sqlstate 'PT418' using message = 'short', detail = 'stout'; end $$;
    create function twice(a int) returns text language sql as $$ select 'int' $$;
    create function twice(a text) returns text language sql as $$ select 'text' $$;
    grant execute on all functions in schema public to authenticated;
"""


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    name = new_database(postgres, TABLES)
    yield postgres.api_dsn(name)
    drop_database(postgres, name)


@pytest.fixture
async def client(database: str, kafka_bootstrap: str) -> AsyncGenerator[httpx.AsyncClient]:
    source = PostgresApiSource(database, "none")
    async with serving(kafka_bootstrap, {"main": source}, rows_max=100) as client:
        yield client


READS: list[tuple[str, Any]] = [
    ("people?select=id,label:name&id=eq.1", [{"id": 1, "label": "Ada Running"}]),
    ("people?select=age::text&id=eq.1", [{"age": "36"}]),
    ("people?select=home->city->>name&id=eq.1", [{"name": "London"}]),
    ("people?select=x:home->n->1&id=eq.1", [{"x": 2}]),
    ("people?select=id&home->city->>name=eq.Rom, Italia", [{"id": 2}]),
    ('people?select=id&tags->0=eq."b"', [{"id": 2}]),
    ("people?select=id&age=gt.20", [{"id": 1}]),
    ("people?select=id&age=not.gt.20", [{"id": 2}]),
    ("people?select=id&age=is.null", [{"id": 3}]),
    ("people?select=id&age=not.is.null&order=id.desc", [{"id": 2}, {"id": 1}]),
    ("people?select=id&age=is.not_null&order=id", [{"id": 1}, {"id": 2}]),
    ("people?select=id&name=like.A*", [{"id": 1}]),
    ("people?select=id&name=ilike.*OB", [{"id": 2}]),
    ("people?select=id&name=match.^C", [{"id": 3}]),
    ("people?select=id&name=imatch.^c", [{"id": 3}]),
    ('people?select=id&name=in.(Bob,"Cy \\"C\\"")&order=id', [{"id": 2}, {"id": 3}]),
    ("people?select=id&id=in.()", []),
    ("people?select=id&id=eq(any).{1,3}&order=id", [{"id": 1}, {"id": 3}]),
    ("people?select=id&name=like(all).{*o*,B*}", [{"id": 2}]),
    ("people?select=id&age=isdistinct.36&order=id", [{"id": 2}, {"id": 3}]),
    ("people?select=id&tags=cs.{a}", [{"id": 1}]),
    ("people?select=id&tags=cd.{b,c}", [{"id": 2}]),
    ("people?select=id&tags=ov.{b}&order=id", [{"id": 1}, {"id": 2}]),
    ('people?select=id&home=cs.{"n":[1]}', [{"id": 1}]),
    ("people?select=id&span=sl.[5,9)", [{"id": 1}]),
    ("people?select=id&span=sr.[1,5)", [{"id": 2}]),
    ("people?select=id&span=adj.[5,9)", [{"id": 1}]),
    ("people?select=id&span=nxr.[1,5)", [{"id": 1}]),
    ("people?select=id&span=nxl.[5,9)", [{"id": 2}]),
    ("people?select=id&words=fts.run", [{"id": 1}]),
    ("people?select=id&name=plfts(english).runs", [{"id": 1}]),
    ('people?select=id&name=not.wfts(english)."ada running"&order=id', [{"id": 2}, {"id": 3}]),
    ("people?select=id&name=phfts.ada running", [{"id": 1}]),
    ("people?select=id&or=(id.eq.1,and(id.gt.1,age.is.null))&order=id", [{"id": 1}, {"id": 3}]),
    ("people?select=id&not.or=(id.eq.1,id.eq.2)", [{"id": 3}]),
    ("people?select=id&and=(id.gte.2,not.or(age.eq.20,id.eq.9))", []),
    ('people?select=id&or=(name.eq."Cy \\"C\\"",name.in.(Bob,x))&order=id', [{"id": 2}, {"id": 3}]),
    ("people?select=id&or=(tags.cs.{a,b},id.eq.3)&order=id", [{"id": 1}, {"id": 3}]),
    ("people?select=id&order=age.desc.nullslast,id", [{"id": 1}, {"id": 2}, {"id": 3}]),
    ("people?select=id&order=age.nullsfirst", [{"id": 3}, {"id": 2}, {"id": 1}]),
    ("people?select=id&order=home->city->>name.desc.nullslast&limit=1", [{"id": 2}]),
    ("people?select=id&order=id&limit=1&offset=1", [{"id": 2}]),
    ("people?select=id,b&id=eq.1", [{"id": 1, "b": "b"}]),
    ("people?select=&id=eq.1", [{}]),
    ("people?select=count()", [{"count": 3}]),
    ("people?select=count&id=gt.1", [{"count": 2}]),
    ("people?select=n:count()::text,age.sum(),age.max()", [{"n": "3", "sum": 56, "max": 36}]),
    (
        "people?select=boss,count()&order=boss",
        [{"boss": 1, "count": 2}, {"boss": None, "count": 1}],
    ),
    ("people?select=x:home->n->>0::int.sum(),home->n->>0&id=eq.1", [{"x": 1, "n": "1"}]),
    (
        "teams?select=name,members(count)&order=id",
        [
            {"name": "red", "members": [{"count": 2}]},
            {"name": "blue", "members": [{"count": 1}]},
            {"name": "empty", "members": [{"count": 0}]},
        ],
    ),
    (
        "members?select=people(name),...teams(team:name),count()&team=eq.2",
        [{"people": {"name": "Bob"}, "team": "blue", "count": 1}],
    ),
    ("rpc/everybody?select=age.min()", [{"min": 20}]),
    (
        "people?select=display,x:display::text&display=eq.Dr. Bob",
        [{"display": "Dr. Bob", "x": "Dr. Bob"}],
    ),
    ("people?select=id&order=display.desc&limit=1", [{"id": 3}]),
    ("rpc/everybody?select=display&display=like.*Bob", [{"display": "Dr. Bob"}]),
    (
        "teams?select=id,...members(role,...people(who:name))&members.order=role&order=id",
        [
            {"id": 1, "role": ["x", "y"], "who": ["Ada Running", "Bob"]},
            {"id": 2, "role": ["x"], "who": ["Bob"]},
            {"id": 3, "role": [], "who": []},
        ],
    ),
    (
        "members?select=role,...teams(name,...people!lead(boss:name))&team=eq.2",
        [{"role": "x", "name": "blue", "boss": "Bob"}],
    ),
    ("rpc/total?n=1&n=2", 3),
    ("rpc/total?n={4,5}", 9),
    ("rpc/total?n=4", 4),
    (
        "people?select=name,profiles(bio)&id=eq.1",
        [{"name": "Ada Running", "profiles": {"bio": "first"}}],
    ),
    ("people?select=id,profiles(bio)&id=eq.2", [{"id": 2, "profiles": None}]),
    ("profiles?select=bio,people(name)", [{"bio": "first", "people": {"name": "Ada Running"}}]),
    ("profiles?select=bio,...people(name)", [{"bio": "first", "name": "Ada Running"}]),
    (
        "profiles?select=bio,...people(who:name,age)",
        [{"bio": "first", "who": "Ada Running", "age": 36}],
    ),
    ("teams?select=name,lead(name)&id=eq.2", [{"name": "blue", "lead": {"name": "Bob"}}]),
    (
        "teams?select=l:people!lead(name),d:people!deputy(name)&id=eq.1",
        [{"l": {"name": "Ada Running"}, "d": {"name": "Bob"}}],
    ),
    ("teams?select=x:people!teams_deputy_fkey(id)&id=eq.1", [{"x": {"id": 2}}]),
    (
        "teams?select=id,people!members(name)&id=eq.1&people.order=name.desc",
        [{"id": 1, "people": [{"name": "Bob"}, {"name": "Ada Running"}]}],
    ),
    (
        "teams?select=id,members(role,people(name))&id=eq.2",
        [{"id": 2, "members": [{"role": "x", "people": {"name": "Bob"}}]}],
    ),
    (
        "teams?select=id,members!inner(role)&members.role=eq.y",
        [{"id": 1, "members": [{"role": "y"}]}],
    ),
    ("teams?select=id,members(role)&members.role=eq.y&id=eq.2", [{"id": 2, "members": []}]),
    (
        "teams?select=id,members(role)&members.order=role&members.limit=1&id=eq.1",
        [{"id": 1, "members": [{"role": "x"}]}],
    ),
    ("teams?select=id,members()&members=is.null", [{"id": 3}]),
    ("teams?select=id,members()&members=not.is.null&order=id", [{"id": 1}, {"id": 2}]),
    (
        "teams?select=id,lead(name)&order=lead(name).desc.nullslast",
        [
            {"id": 2, "lead": {"name": "Bob"}},
            {"id": 1, "lead": {"name": "Ada Running"}},
            {"id": 3, "lead": None},
        ],
    ),
    ("people?select=id,people!people_boss_fkey(id)&id=eq.2", [{"id": 2, "people": {"id": 1}}]),
    ("people?select=id,boss(name)&id=eq.2", [{"id": 2, "boss": {"name": "Ada Running"}}]),
    (
        "people?select=id,reports:people(id)&id=eq.1&reports.order=id",
        [{"id": 1, "reports": [{"id": 2}, {"id": 3}]}],
    ),
    ('odd "name?select="a.b",from&"a.b"=eq.7', []),
    ('odd "name?select=*&"ä(ö)"=eq.1&or=("a.b".eq.1,from.eq.x)', []),
    ("rpc/add?x=2&y=3", 5),
    ("rpc/add?x=2", 3),
    ("rpc/everybody?min_age=30&select=name", [{"name": "Ada Running"}]),
    ("rpc/everybody?select=id,profiles(bio)&order=id.desc&limit=1", [{"id": 2, "profiles": None}]),
    ("rpc/everybody?age=lt.30&select=id", [{"id": 2}]),
    ("rpc/pair?a=eq.2", [{"a": 2, "b c": "y"}]),
    ("rpc/numbers?n=3", [1, 2, 3]),
    ("rpc/numbers?n=5&limit=2&offset=1", [2, 3]),
    ("rpc/somebody?select=id,name", {"id": 1, "name": "Ada Running"}),
    ("rpc/whoami", {"role": "authenticated", "sub": "ada", "method": "GET"}),
]


async def test_what_a_query_asks_is_what_it_gets(client: httpx.AsyncClient) -> None:
    wrong: list[object] = []
    # The second time, all are planned already.
    for query, expected in (*READS, *READS):
        response = await client.get(f"/{query}")
        if (response.status_code, response.json()) != (200, expected):
            wrong.append((query, response.status_code, response.json()))
    assert wrong == []


async def test_profiles_name_a_source_or_a_schema_or_both(client: httpx.AsyncClient) -> None:
    for profile in ("other", "main.other"):
        response = await client.get("/things", headers={"Accept-Profile": profile})
        assert response.json() == [{"id": 1, "name": "there"}]
        made = await client.patch(
            "/things", json={"name": "there"}, headers={"Content-Profile": profile}
        )
        assert made.headers["content-range"] == "0-0/*"
    assert (await client.get("/things")).status_code == 404
    assert (await client.get("/things", headers={"Accept-Profile": "x"})).status_code == 406


async def test_ranges_and_counts(client: httpx.AsyncClient) -> None:
    async def look(url: str, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = await client.get(url, headers=named)
        return response.status_code, response.headers.get("content-range", "")

    assert await look("/people") == (200, "0-2/*")
    assert await look("/people", Range="1-1") == (200, "1-1/*")
    assert await look("/people", Range="1-", Prefer="count=exact") == (206, "1-2/3")
    assert await look("/people?limit=1", Prefer="count=exact") == (206, "0-0/3")
    assert await look("/people?id=eq.9", Prefer="count=exact") == (200, "*/0")
    assert await look("/people", Prefer="count=estimated") == (200, "0-2/3")
    assert await look("/people?id=lt.3", Prefer="count=planned") == (200, "0-1/2")
    assert await look("/people?offset=3", Prefer="count=exact") == (206, "*/3")
    assert await look("/people?offset=9", Prefer="count=exact") == (416, "*/3")
    assert await look("/people", Range="5-2") == (416, "")
    inner = "/teams?select=id,members!inner(role)&members.role=eq.y"
    assert await look(inner, Prefer="count=exact") == (200, "0-0/1")
    head = await client.head("/people", headers={"Prefer": "count=exact"})
    assert (head.content, head.headers["content-range"]) == (b"", "0-2/3")


async def test_one_object_is_given_only_where_there_is_one(client: httpx.AsyncClient) -> None:
    single = {"Accept": "application/vnd.pgrst.object+json"}
    found = await client.get("/people?id=eq.1&select=id", headers=single)
    assert (found.json(), found.status_code) == ({"id": 1}, 200)
    for query in ("/people", "/people?id=eq.9"):
        refused = await client.get(query, headers=single)
        assert (refused.status_code, refused.json()["code"]) == (406, "PGRST116")
    many = await client.patch("/people", json={"age": 99}, headers=single)
    assert many.status_code == 406
    assert (await client.get("/people?age=eq.99")).json() == []


async def test_rows_are_written_and_given_back(client: httpx.AsyncClient) -> None:
    back = {"Prefer": "return=representation"}
    made = await client.post(
        "/people?select=id,boss(name)", json={"id": 10, "name": "J", "boss": 1}, headers=back
    )
    assert (made.status_code, made.json()) == (201, [{"id": 10, "boss": {"name": "Ada Running"}}])
    located = await client.post(
        "/people", json={"id": 11, "name": "K"}, headers={"Prefer": "return=headers-only"}
    )
    assert (located.status_code, located.content) == (201, b"")
    assert located.headers["location"] == "/people?id=eq.11"
    many = [{"id": 12, "name": "L"}, {"id": 13, "name": "M", "b": None}]
    assert (await client.post("/people", json=many)).json()["code"] == "PGRST102"
    lenient = {"Prefer": "return=representation, missing=default"}
    made = await client.post("/people?select=b", json=many, headers=lenient)
    assert made.json() == [{"b": "b"}, {"b": None}]
    named = await client.post(
        "/people?columns=id,name&select=id,age",
        json=[{"id": 14, "name": "N", "age": 5, "nonsense": 1}],
        headers=back,
    )
    assert named.json() == [{"id": 14, "age": None}]
    csv = await client.post(
        "/people?select=name,age",
        content='id,name,age\n15,"O, P",NULL\n',
        headers={**back, "Content-Type": "text/csv"},
    )
    assert csv.json() == [{"name": "O, P", "age": None}]
    form = await client.post(
        "/people?select=age", data={"id": "16", "name": "Q", "age": "7"}, headers=back
    )
    assert form.json() == [{"age": 7}]
    none = await client.post("/people", json=[], headers=back)
    assert (none.status_code, none.json()) == (201, [])
    changed = await client.patch("/people?id=gte.15", json={"age": 8}, headers=back)
    assert [row["age"] for row in changed.json()] == [8, 8]
    assert (await client.patch("/people?id=eq.15", json={})).status_code == 204
    counted = await client.delete(
        "/people?id=gte.15", headers={"Prefer": "return=minimal, count=exact"}
    )
    assert (counted.status_code, counted.headers["content-range"]) == (204, "*/2")
    strict = {"Prefer": "handling=strict, max-affected=1"}
    refused = await client.delete("/people?id=gte.10", headers=strict)
    assert (refused.status_code, refused.json()["code"]) == (400, "PGRST124")
    gone = await client.delete("/people?id=gte.10&select=id&order=id.desc", headers=back)
    assert gone.json() == [{"id": n} for n in (14, 13, 12, 11, 10)]


async def test_upserts_merge_ignore_and_put(client: httpx.AsyncClient) -> None:
    back = "return=representation, resolution="
    merged = await client.post(
        "/members?select=role",
        json={"team": 3, "person": 3, "role": "n"},
        headers={"Prefer": f"{back}merge-duplicates"},
    )
    assert (merged.status_code, merged.json()) == (201, [{"role": "n"}])
    ignored = await client.post(
        "/members",
        json=[{"team": 3, "person": 3, "role": "m"}],
        headers={"Prefer": f"{back}ignore-duplicates"},
    )
    assert ignored.json() == []
    by_name = await client.post(
        "/people?on_conflict=name&select=id,age",
        json={"id": 2, "name": "Bob", "age": 20},
        headers={"Prefer": f"{back}merge-duplicates"},
    )
    assert by_name.json() == [{"id": 2, "age": 20}]
    put = await client.put(
        "/members?team=eq.3&person=eq.3",
        json={"team": 3, "person": 3, "role": "p"},
        headers={"Prefer": "return=representation"},
    )
    assert (put.status_code, put.json()[0]["role"]) == (200, "p")
    for url, body, code in (
        ("/members?team=eq.3", {"team": 3, "person": 3}, "PGRST105"),
        ("/members?team=eq.3&person=gt.3", {"team": 3, "person": 3}, "PGRST105"),
        ("/members?team=eq.3&person=eq.3", {"team": 3, "person": 4}, "PGRST115"),
        ("/members?team=eq.3&person=eq.3&limit=1", {"team": 3, "person": 3}, "PGRST114"),
    ):
        assert (await client.put(url, json=body)).json()["code"] == code
    assert (await client.delete("/members?team=eq.3")).status_code == 204


async def test_functions_are_called_by_post_with_their_arguments(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.post("/rpc/add", json={"x": 2, "y": 5})).json() == 7
    assert (await client.post("/rpc/nothing")).status_code == 204
    assert (await client.post("/rpc/numbers", json={"n": 2})).json() == [1, 2]
    assert (await client.post("/rpc/add_person", json={"id": 90, "name": "fn"})).json() == 90
    assert (await client.delete("/people?id=eq.90")).status_code == 204
    for response, status, code in (
        (await client.get("/rpc/add_person?id=91&name=fn"), 405, "25006"),
        (await client.post("/rpc/add", json={"x": 2, "z": 5}), 404, "PGRST202"),
        (await client.post("/rpc/nosuch", json={}), 404, "PGRST202"),
        (await client.post("/rpc/twice", json={"a": 1}), 300, "PGRST203"),
        (await client.post("/rpc/add", json=[{"x": 2}]), 400, "PGRST102"),
        (await client.post("/rpc/add", json={"x": "y"}), 400, "22P02"),
        (await client.patch("/rpc/add", json={"x": 1}), 405, "PGRST101"),
        (await client.post("/rpc/teapot"), 418, "PT418"),
    ):
        assert (response.status_code, response.json()["code"]) == (status, code)


ERRORS: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/nosuch", None, 404, "PGRST205"),
    ("GET", "/people?nosuch=eq.1", None, 400, "42703"),
    ("GET", "/people?select=nosuch", None, 400, "42703"),
    ("GET", "/people?order=nosuch", None, 400, "42703"),
    ("GET", "/people?select=id,nosuch(x)", None, 400, "PGRST200"),
    ("GET", "/teams?select=id,people(name)", None, 300, "PGRST201"),
    ("GET", "/teams?select=id,...members(role.max())", None, 400, "PGRST127"),
    ("GET", "/people?teams.id=eq.1", None, 400, "PGRST108"),
    ("DELETE", "/people?.id=eq.99", None, 400, "PGRST108"),
    ("GET", "/people?order=teams(id)", None, 400, "PGRST108"),
    ("GET", "/people?id=nosuch.1", None, 400, "PGRST100"),
    ("GET", "/people?id=1", None, 400, "PGRST100"),
    ("GET", "/people?id=eq", None, 400, "PGRST100"),
    ("GET", "/people?id=is.maybe", None, 400, "PGRST100"),
    ("GET", "/people?id=in.1", None, 400, "PGRST100"),
    ("GET", "/people?select=id,", None, 400, "PGRST100"),
    ("GET", "/people?select=id(", None, 400, "PGRST100"),
    ("GET", "/people?select=id::nosuch", None, 400, "42704"),
    ("GET", "/people?select=id::int);drop table people", None, 400, "PGRST100"),
    ("GET", "/people?select=id.median()", None, 400, "PGRST100"),
    ("GET", "/people?select=name.sum()", None, 400, "42883"),
    ("GET", "/people?select=boss,count()&order=age", None, 400, "42803"),
    ("GET", "/rpc/nosuch?x=1", None, 404, "PGRST202"),
    ("GET", "/rpc/add?x=1&z=2", None, 404, "PGRST202"),
    ("GET", "/people?or=(id.eq.1", None, 400, "PGRST100"),
    ("GET", "/people?or=()", None, 400, "PGRST100"),
    ("GET", "/people?order=id.up", None, 400, "PGRST100"),
    ("GET", "/people?limit=-1", None, 400, "PGRST100"),
    ("GET", "/people?id=eq.x", None, 400, "22P02"),
    ("GET", "/people?id=eq.99999999999", None, 400, "22003"),
    ("GET", "/people?mood=eq.angry", None, 400, "22P02"),
    ("GET", "/people?age=like.x", None, 400, "42883"),
    ("GET", "/people?name=fts(nosuch).x", None, 400, "42704"),
    ("GET", "/people?name=match.(", None, 400, "2201B"),
    ("GET", "/people?name=eq.%00", None, 400, "PGRST100"),
    ("GET", "/people?name=eq.%ff", None, 400, "PGRST100"),
    ("POST", "/people", b"{", 400, "PGRST102"),
    ("POST", "/people", b"", 400, "PGRST102"),
    ("POST", "/people", b"7", 400, "PGRST102"),
    ("POST", "/people", b"[7]", 400, "PGRST102"),
    ("POST", "/people", b'{"nosuch": 1}', 400, "PGRST204"),
    ("POST", "/people", b'{"id": "x", "name": "y"}', 400, "22P02"),
    ("POST", "/people", b'{"id": 1, "name": "y"}', 409, "23505"),
    ("POST", "/people", b'{"id": 77, "name": "y", "boss": 99}', 409, "23503"),
    ("POST", "/people", b'{"id": 77}', 400, "23502"),
    ("POST", "/people", b'{"id": 77, "name": "y", "age": -1}', 400, "23514"),
    ("POST", "/people", b'{"id": 77, "name": "\\u0000"}', 400, "22P05"),
    ("POST", "/people", b"[" * 5_000, 400, "PGRST102"),
    ("POST", "/people", b'"' + b"x" * 200_000 + b'"', 413, "RC413"),
    ("POST", "/deferred", b'{"id": 1, "next": 2}', 409, "23503"),
    ("POST", "/secrets", b'{"id": 5}', 400, "428C9"),
    ("PATCH", "/people", b"[]", 400, "PGRST102"),
    ("PUT", "/people", b'{"id": 1}', 405, "PGRST105"),
    ("TRACE", "/people", None, 405, "PGRST117"),
    ("POST", "/", None, 405, "PGRST117"),
]


async def test_what_is_wrong_is_answered_in_postgrests_form(client: httpx.AsyncClient) -> None:
    wrong: list[object] = []
    for method, url, body, status, code in ERRORS:
        response = await client.request(method, url, content=body)
        error = response.json()
        if (response.status_code, error["code"]) != (status, code):
            wrong.append((method, url, response.status_code, error))
        assert set(error) == {"code", "message", "details", "hint"}
        assert error["message"]
    assert wrong == []
    people = await client.get("/people?select=id")
    assert len(people.json()) == 3


async def test_what_is_to_be_rolled_back_is_carried_out_and_undone(
    client: httpx.AsyncClient,
) -> None:
    undo = {"Prefer": "return=representation, tx=rollback"}
    person = {"id": 80, "name": "Zed"}
    made = await client.post("/people?select=id,display", json=person, headers=undo)
    assert (made.status_code, made.json()) == (201, [{"id": 80, "display": "Dr. Zed"}])
    assert "tx=rollback" in made.headers["preference-applied"]
    assert (await client.post("/rpc/add_person", json=person, headers=undo)).json() == 80
    assert (await client.get("/people?id=eq.80")).json() == []


async def test_other_forms_of_an_answer(client: httpx.AsyncClient) -> None:
    csv = {"Accept": "text/csv"}
    assert (await client.get("/rpc/numbers?n=2", headers=csv)).text == "numbers\n1\n2\n"
    stripped = {"Accept": "application/vnd.pgrst.array+json;nulls=stripped"}
    found = await client.get("/people?select=id,age,mood&id=eq.3", headers=stripped)
    assert found.json() == [{"id": 3, "mood": "ok"}]


async def test_what_was_altered_a_moment_ago_is_served_as_it_is(
    client: httpx.AsyncClient, database: str, postgres: EmbeddedPostgres
) -> None:
    name = conninfo_to_dict(database)["dbname"]
    with psycopg.connect(postgres.dsn(str(name)), autocommit=True) as owner:
        steps: list[tuple[LiteralString, str, Any]] = [
            ("create table fresh (id int primary key, n int)", "fresh", []),
            ("insert into fresh values (1, 2)", "fresh?select=id", [{"id": 1}]),
            ("alter table fresh add m int default 3", "fresh?select=m", [{"m": 3}]),
            ("alter table fresh rename n to o", "fresh?select=o", [{"o": 2}]),
            (
                "create table kids (id int primary key, fresh int references fresh)",
                "fresh?select=id,kids(id)",
                [{"id": 1, "kids": []}],
            ),
            (
                "create function half(fresh) returns int language sql as 'select $1.o / 2'",
                "fresh?select=half",
                [{"half": 1}],
            ),
            ("alter table fresh rename to older", "older?select=id", [{"id": 1}]),
        ]
        for statement, asked, expected in steps:
            owner.execute(statement)
            owner.execute("grant all on all tables in schema public to authenticated")
            assert (await client.get(f"/{asked}")).json() == expected, statement
        assert (await client.get("/fresh")).json()["code"] == "PGRST205"
        owner.execute("drop table kids, older cascade")


async def test_the_description_is_sound_whatever_tables_are_called(
    client: httpx.AsyncClient,
) -> None:
    described = (await client.get("/")).json()
    assert '/odd "name' in described["paths"]
    named = set(described["components"]["schemas"])
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in named)
    referred = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(described)))
    assert referred <= named


async def test_nobody_and_forgers_are_refused(client: httpx.AsyncClient) -> None:
    anon = bearer("anon", "")
    nobody = await client.get("/people?select=name&id=eq.1", headers=anon)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    old = make_token(SECRET, "authenticated", "ada", 60, now=time.time() - 120)
    expired = await client.get("/people", headers={"Authorization": f"Bearer {old}"})
    assert (expired.status_code, expired.json()["code"]) == (401, "PGRST303")
    assert (await client.get("/people?select=name&limit=1", headers=anon)).status_code == 200
    forged = {"Authorization": bearer("service_role")["Authorization"] + "x"}
    refused = await client.get("/people", headers=forged)
    assert (refused.status_code, refused.json()["code"]) == (401, "PGRST301")
    unheard = await client.get("/people", headers={"Accept": "image/png"})
    assert (unheard.status_code, unheard.json()["code"]) == (406, "PGRST107")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    no_text = await client.post("/people", content=b"name=%ff", headers=form)
    assert (no_text.status_code, no_text.json()["code"]) == (400, "PGRST102")
    odd = await client.post("/people", content=b"x", headers={"Content-Type": "text/x"})
    assert (odd.status_code, odd.json()["code"]) == (415, "PGRST107")


async def test_who_may_write_and_not_read_gets_nothing_back(client: httpx.AsyncClient) -> None:
    assert (await client.post("/secrets", json={"owner": "x", "body": "y"})).status_code == 201
    assert (await client.get("/secrets")).json() == []
    back = {"Prefer": "return=representation"}
    refused = await client.post("/secrets", json={"owner": "x"}, headers=back)
    assert (refused.status_code, refused.json()["code"]) == (403, "42501")
    service = bearer("service_role")
    assert len((await client.get("/secrets", headers=service)).json()) == 1


async def test_a_statement_that_takes_too_long_is_stopped(
    database: str, kafka_bootstrap: str
) -> None:
    source = PostgresApiSource(database, "none")
    async with serving(kafka_bootstrap, {"main": source}, statement_timeout_s=0.2) as client:
        slow = await client.get("/rpc/numbers?n=2000000000&limit=1&offset=2")
        assert (slow.status_code, slow.json()["code"]) == (504, "57014")
        assert (await client.get("/people?select=id&id=eq.1")).json() == [{"id": 1}]


async def test_an_answer_has_at_most_so_many_rows(database: str, kafka_bootstrap: str) -> None:
    source = PostgresApiSource(database, "none")
    async with serving(kafka_bootstrap, {"main": source}, rows_max=2) as client:
        counted = await client.get("/people?limit=100", headers={"Prefer": "count=exact"})
        assert (counted.status_code, counted.headers["content-range"]) == (206, "0-1/3")
        below = await client.get("/people?select=reports:people(id)&id=eq.1")
        assert len(below.json()[0]["reports"]) == 2


async def test_questions_of_one_shape_are_answered_by_their_own_values(
    client: httpx.AsyncClient,
) -> None:
    for query, ids in (
        ("id=eq.1", [1]),
        ("id=eq.2", [2]),
        ("id=gt.2", [3]),
        ("id=gt.1&id=lt.3", [2]),
        ("id=gt.2&id=lt.4", [3]),
        ("id=eq.eq.1", None),
        ("id=eq.", None),
        ("name=eq.Bob", [2]),
        ("name=eq.not.eq.Bob", []),
        ("name=eq.Bob&limit=0", []),
        ("profiles.bio=eq.first&select=id,profiles!inner()", [1]),
        ("profiles.bio=eq.other&select=id,profiles!inner()", []),
        ("nosuch=eq.1", None),
    ):
        response = await client.get(f"/people?select=id&{query}")
        if "select=" in query:
            response = await client.get(f"/people?{query}")
        if ids is None:
            assert response.status_code == 400
            assert "\x01" not in response.text
        else:
            assert [row["id"] for row in response.json()] == ids


async def test_connections_that_the_server_ends_are_replaced_and_those_in_use_are_shared(
    client: httpx.AsyncClient, postgres: EmbeddedPostgres
) -> None:
    async def ask() -> int:
        response = await client.get("/people?select=id&id=eq.1")
        return response.status_code

    # Four connections are all that there are.
    assert await asyncio.gather(*(ask() for _ in range(40))) == [200] * 40
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'rowcast api'"
        )
    assert await asyncio.gather(*(ask() for _ in range(40))) == [200] * 40
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'rowcast api'"
        )
    assert (await client.post("/keyless", json={"n": 1})).status_code == 201
    assert (await client.delete("/keyless")).status_code == 204
