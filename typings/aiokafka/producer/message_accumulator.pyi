from asyncio import Future
from collections import deque
from collections.abc import Sequence

from aiokafka import TopicPartition

class BatchBuilder:
    _closed: bool
    def __init__(
        self, batch_size: int, compression_type: int, *, is_transactional: int = ...
    ) -> None: ...
    def closed(self) -> bool: ...
    def _set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int
    ) -> None: ...
    def _build(self) -> bytearray: ...
    def append(
        self,
        *,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = ...,
    ) -> object | None: ...
    def close(self) -> None: ...
    def size(self) -> int: ...
    def record_count(self) -> int: ...

class MessageBatch:
    _drain_waiter: Future[None]

class MessageAccumulator:
    _batches: dict[TopicPartition, deque[MessageBatch]]
