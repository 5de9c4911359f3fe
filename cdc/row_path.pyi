# Types of the compiled module, and what its functions take (`row_path.pyx`).

from collections.abc import Callable, Sequence
from typing import Protocol

from cdc.change_group import ChangeGroup
from cdc.snapshot_window import SnapshotWindow

class Digest(Protocol):
    def copy(self) -> Digest: ...
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...

class Table:
    def __init__(
        self,
        topic: str,
        names: list[bytes],
        encodings: Sequence[int],
        encoders: list[Callable[[bytes], bytes]],
        key: Sequence[int],
        identity: Sequence[int],
        created: bytes,
        created_end: bytes,
        updated: bytes,
        deleted: bytes,
        source: bytes,
    ) -> None: ...

class RowPath:
    ordinal: int
    record_count: int
    size_bytes: int
    @property
    def frame(self) -> bytes: ...
    def __init__(self) -> None: ...
    def define(self, oid: int, table: Table) -> None: ...
    def forget(self, oid: int) -> None: ...
    def begin(
        self,
        head: bytes,
        tail: bytes,
        headers: list[tuple[str, bytes]],
        headers_size: int,
        timestamp_ms: int,
    ) -> None: ...
    def end(self) -> None: ...
    def set_end(self, end: bytes) -> None: ...
    def set_group(self, group: ChangeGroup) -> None: ...
    def set_window(self, window: SnapshotWindow | None) -> None: ...
    def read_lines(
        self,
        table: Table,
        lines: list[bytes],
        head: bytes,
        middle: bytes,
        tail: bytes,
        digest: Digest,
        rows: list[tuple[bytes, bytes]],
        long_way: Callable[[bytes], tuple[bytes, bytes]],
    ) -> None: ...
    def feed(self, data: bytes, start: int = 0) -> bool: ...
    def drain(
        self,
        connection: int,
        get_copy_data: int,
        consume_input: int,
        free_memory: int,
        frames_max: int,
        records_max: int,
        bytes_max: int,
    ) -> int: ...
