from collections.abc import Iterator

class DefaultRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]

class DefaultRecordBatch:
    is_transactional: bool
    producer_id: int
    producer_epoch: int
    max_timestamp: int
    def __init__(self, buffer: bytes) -> None: ...
    def validate_crc(self) -> bool: ...
    def __iter__(self) -> Iterator[DefaultRecord]: ...
