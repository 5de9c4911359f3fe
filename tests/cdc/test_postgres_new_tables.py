"""Tables that are created while a source of some tables is captured: no row of them is lost."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.postgres_doctor import examine_postgres
from cdc.postgres_new_tables import globs_pattern
from cdc.postgres_source import PostgresSource
from tests.cdc.postgres_place import Place, Role, capturing
from tests.cdc.snapshot_view import bodies, loading, states, until_over

GLOBS = st.text("ab._*?\\^$é+(", max_size=8)


@given(st.lists(GLOBS, min_size=1, max_size=3), st.text("ab._\\^$é+(\n", min_size=1, max_size=6))
def test_the_pattern_for_the_trigger_fits_what_the_globs_fit(globs: list[str], name: str) -> None:
    fits = any(fnmatch.fnmatchcase(name, glob) for glob in globs)
    assert bool(re.fullmatch(globs_pattern(globs).strip("^$"), name, re.DOTALL)) == fits


def of_some(source: PostgresSource) -> PostgresSource:
    return replace(source, tables=("public.or*", "public.item?"))


async def until_rows(place: Place, table: str, ids: set[int]) -> list[str]:
    """The operations that told of a table's rows, once all of them were told."""
    async with asyncio.timeout(30):
        while True:
            found = await bodies(place, table)
            if {body["after"]["id"] for body in found if body["after"]} >= ids:
                return [body["op"] for body in found]
            if place.captures[-1].done():
                place.captures[-1].result()
            await asyncio.sleep(0.1)


@pytest.mark.integration
@pytest.mark.anyio
async def test_a_table_made_while_capture_runs_is_told_from_its_first_row_on(place: Place) -> None:
    await place.run("create table orders (id int primary key)")
    source = of_some(loading(place))
    async with capturing(place, source):
        async with place.connection.transaction():
            await place.run(
                "create table items (id int primary key, note text)",
                "insert into items values (1, 'one')",
                "update items set note = 'two'",
                "create table other (id int primary key)",
                "insert into other values (1)",
            )
        assert await until_rows(place, "items", {1}) == ["c", "u"]
    # Made while nobody looks, it is in the log all the same.
    await place.run("create table itemx (id int primary key)", "insert into itemx values (7)")
    async with capturing(place, source):
        assert await until_rows(place, "itemx", {7}) == ["c"]
        await place.run("insert into items values (2, '')", "insert into itemx values (8)")
        assert await until_rows(place, "itemx", {7, 8}) == ["c", "c"]
        assert await until_rows(place, "items", {1, 2}) == ["c", "u", "c"]
    assert not {name for _, name in (await states(place)).tables} & {"items", "itemx", "other"}
    assert await place.read_topic(f"{place.source.name}.public.other") == []


@pytest.mark.integration
@pytest.mark.anyio
async def test_a_table_filled_as_it_is_made_or_renamed_into_a_glob_is_loaded(place: Place) -> None:
    await place.run(
        "create table orders (id int primary key)",
        "create table aside (id int primary key)",
        "insert into aside values (5)",
    )
    async with capturing(place, of_some(loading(place))):
        await place.run(
            "create table items as select 3 as id",
            "alter table aside rename to item2",
        )
        assert (await until_over(place, "items")).reason == "added"
        assert await until_rows(place, "items", {3}) == ["r"]
        assert await until_rows(place, "item2", {5}) == ["r"]
        # Another table in its place is another table.
        await place.run("drop table items", "create table items as select 4 as id")
        assert await until_rows(place, "items", {3, 4}) == ["r", "r"]


@pytest.mark.integration
@pytest.mark.anyio
async def test_a_role_that_cannot_make_triggers_notices_new_tables_and_tells_their_rows(
    place: Place, role: Role
) -> None:
    await role.run("grant create on schema public to {}")
    name = place.source.name
    await place.connection.execute(f'grant create on database "{name}" to "{role.name}"'.encode())
    source = role.source_of(place.source)
    await role.run("set role {}")
    await place.run("create table orders (id int primary key)")
    # Even where nothing that was there before is wanted: these rows are changes.
    async with capturing(place, source):
        await place.run("create table items (id int primary key)", "insert into items values (1)")
        assert await until_rows(place, "items", {1}) == ["r"]
        await place.run("insert into items values (2)", "insert into orders values (3)")
        assert await until_rows(place, "items", {1, 2}) == ["r", "c"]
        assert await until_rows(place, "orders", {3}) == ["c"]
    await place.run("reset role")


@pytest.mark.integration
@pytest.mark.anyio
async def test_the_doctor_names_tables_that_the_role_cannot_publish(
    place: Place, role: Role
) -> None:
    await place.run(
        "create table orders (id int primary key)",
        "create publication rowcast for table orders",
        "create table items (id int primary key)",
    )
    await role.run("alter table items owner to {}")
    findings = await examine_postgres(of_some(role.source_of(place.source)))
    mends = [finding.mend for finding in findings if finding.severity == "warning"]
    assert 'alter publication "rowcast" add table "public"."items"' in mends
