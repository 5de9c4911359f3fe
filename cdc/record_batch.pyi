# Types of the compiled module (`record_batch.pyx`).

from cdc.change_group import Record

def partition_of(key: bytes, partitions: int) -> int: ...
def fill_batches(
    records: list[Record], partitions: int, bytes_max: int
) -> list[tuple[int, int, int, int, bytearray]]: ...
