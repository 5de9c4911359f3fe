from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from cdc.mongo_doctor import examine_mongo
from cdc.mongo_source import MongoSource

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

Json = dict[str, Any]  # pyright: ignore[reportExplicitAny] - pymongo's own document type


async def test_a_healthy_source_is_ok_in_every_respect(mongo_uri: str) -> None:
    findings = await examine_mongo(MongoSource("docs", mongo_uri, "unused"))
    assert [finding.subject for finding in findings] == [
        "connection",
        "server",
        "change stream",
        "oplog",
        "pre-images",
    ]
    assert {finding.severity for finding in findings} == {"ok"}


async def test_collections_without_pre_images_are_named_where_capture_leaves_them_so(
    mongo_uri: str,
) -> None:
    source = MongoSource("docs", mongo_uri, f"d{uuid.uuid4().hex[:12]}", pre_images=False)
    async with AsyncMongoClient[Json](mongo_uri) as client:
        await client[str(source.database)].create_collection("items")
        left = (await examine_mongo(source))[-1]
        switched = (await examine_mongo(replace(source, pre_images=True)))[-1]
        await client.drop_database(str(source.database))
    assert left.severity == "warning"
    assert f"{source.database}.items" in left.found
    assert "pre_images = true under [sources.docs]" in left.mend
    assert switched.severity == "ok"


async def test_a_source_that_cannot_be_reached_is_one_error_with_its_mend() -> None:
    (finding,) = await examine_mongo(MongoSource("docs", "postgres://127.0.0.1/shop"))
    assert (finding.severity, finding.subject) == ("error", "connection")
    assert "sources.docs.uri" in finding.mend
