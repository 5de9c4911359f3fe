"""One write to a collection, read from a request, and how it is carried out in a transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from api.data_request import DataRequest
from api.errors import ApiError
from api.mongo_query import Document, filter_document, meant_values, read_documents
from api.query_tree import Condition, Query
from api.request_body import read_body

Resolution: TypeAlias = Literal["merge-duplicates", "ignore-duplicates"]


@dataclass(frozen=True, slots=True)
class MongoChange:
    """What is to be done: with the documents given, or with those that the filter finds."""

    method: str
    documents: tuple[Document, ...] = ()
    wanted: Document = field(default_factory=dict[str, object])
    resolution: Resolution | None = None
    unique: tuple[str, ...] = ("_id",)
    put_id: object = None
    """The `_id` of a document that a PUT inserts."""

    @classmethod
    def of(cls, query: Query, request: DataRequest) -> MongoChange:
        """From a request; raises ApiError for a body or a filter that means nothing."""
        wanted = filter_document(query.selection)
        if request.method == "DELETE":
            return cls("DELETE", wanted=wanted)
        body = read_body(request.body, request.headers.get("content-type", ""))
        documents = tuple(read_documents(body.text))
        if request.method == "POST":
            return cls(
                "POST",
                documents,
                resolution=request.preferences.resolution,
                unique=query.on_conflict or ("_id",),
            )
        if len(documents) != 1:
            raise ApiError(
                400,
                "PGRST102",
                "Empty or invalid json",
                details=f"{request.method} takes one object",
            )
        if request.method == "PUT":
            return cls._put(query, documents[0])
        if "_id" in documents[0]:
            raise ApiError(400, "PGRST102", "found _id in the change, which stays as it is")
        return cls(request.method, documents, wanted)

    @classmethod
    def _put(cls, query: Query, document: Document) -> MongoChange:
        ids = meant_values(_id_asked(query))
        if "_id" in document and document["_id"] not in ids:
            raise ApiError(
                400,
                "PGRST115",
                "Payload values do not match URL in primary key column(s)",
            )
        wanted: Document = {"_id": document["_id"]} if "_id" in document else {"_id": {"$in": ids}}
        return cls("PUT", (document,), wanted, put_id=ids[0])

    async def run(
        self,
        collection: AsyncCollection[Document],
        session: AsyncClientSession,
        timeout_ms: int,
        mark: str | None,
    ) -> list[Document]:
        """Carry it out, with `mark` as the comment of what reads.

        The documents as they are afterwards, or were before they were deleted.
        """
        match self.method:
            case "POST" if self.resolution is not None:
                return [
                    found
                    for document in self.documents
                    if (found := await self._upsert(collection, session, document, mark))
                    is not None
                ]
            case "POST":
                if self.documents:
                    await collection.insert_many(self.documents, session=session)
                return list(self.documents)
            case "PUT":
                found = await collection.find_one_and_replace(
                    self.wanted,
                    self.documents[0],
                    return_document=ReturnDocument.AFTER,
                    session=session,
                    comment=mark,
                )
                if found is None:
                    # As an upsert it would have any new id where the text may mean several.
                    found = {"_id": self.put_id, **self.documents[0]}
                    await collection.insert_one(found, session=session)
                return [found]
            case _:
                pass
        before = await collection.find(
            self.wanted, session=session, max_time_ms=timeout_ms, comment=mark
        ).to_list()
        ids: Document = {"_id": {"$in": [one["_id"] for one in before]}}
        if self.method == "DELETE":
            await collection.delete_many(ids, session=session)
            return before
        if not self.documents[0]:
            return []
        await collection.update_many(ids, {"$set": self.documents[0]}, session=session)
        changed = collection.find(ids, session=session, max_time_ms=timeout_ms, comment=mark)
        return await changed.to_list()

    async def _upsert(
        self,
        collection: AsyncCollection[Document],
        session: AsyncClientSession,
        document: Document,
        mark: str | None,
    ) -> Document | None:
        missing = [name for name in self.unique if name not in document]
        if missing:
            if self.unique == ("_id",):
                await collection.insert_one(document, session=session)
                return document
            raise ApiError(400, "PGRST102", f"found no {missing[0]}, by which to find a document")
        wanted: Document = {name: {"$eq": document[name]} for name in self.unique}
        if self.resolution == "ignore-duplicates":
            if await collection.find_one(wanted, session=session, comment=mark) is not None:
                return None
            await collection.insert_one(document, session=session)
            return document
        fields = {name: value for name, value in document.items() if name != "_id"}
        change: Document = {"$set": fields}
        if "_id" in document:
            change["$setOnInsert"] = {"_id": document["_id"]}
        return await collection.find_one_and_update(
            wanted,
            change if fields else {"$setOnInsert": document},
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
            comment=mark,
        )


def _id_asked(query: Query) -> str:
    """A PUT replaces the one document whose id stands in the address."""
    (only,) = query.selection.where if len(query.selection.where) == 1 else (None,)
    if (
        not isinstance(only, Condition)
        or only.operator != "eq"
        or only.negated
        or (only.field.name, only.field.path) != ("_id", ())
    ):
        raise ApiError(
            405,
            "PGRST105",
            "Filters must include all and only primary key columns with 'eq' operators",
        )
    return only.value
