"""What the data API asks of a source, whichever database it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from api.answer import Answer
from api.api_event import ApiCall
from api.catalogue import Catalogue, Collections
from api.data_request import DataRequest
from api.table_read import Telling

Commit: TypeAlias = Callable[[Answer], Awaitable[None]]
"""Called with the answer inside of the transaction; what it raises rolls the write back."""


class DataSource(Protocol):
    """One database."""

    @property
    def name(self) -> str:
        """The source's."""
        ...

    @property
    def telling(self) -> Telling:
        """When the rows of an answer are told of."""
        ...

    @property
    def default_schema(self) -> str:
        """Where a name without a schema is looked for."""
        ...

    async def open(self) -> None:
        """Begin to connect; a database that is away is waited for behind the scenes."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...

    async def has(self, request: DataRequest, *, since_s: float) -> bool:
        """Whether the table or function is here, by what is known since then (monotonic)."""
        ...

    async def has_schema(self, schema: str) -> bool:
        """Whether the source has a schema."""
        ...

    async def catalogue(self) -> Catalogue | Collections:
        """What there is."""
        ...

    async def answer(self, request: DataRequest, call: ApiCall, commit: Commit) -> Answer:
        """Carry out a call; what is learnt of it on the way is noted in `call`.

        Raises ApiError where it is refused or fails.
        """
        ...
