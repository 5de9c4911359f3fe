"""A group's records as batches that aiokafka sends: filled in compiled code, or by aiokafka.

Nearly half of capture's time went into aiokafka's append and the hash of each key.
"""

from __future__ import annotations

import struct
from collections.abc import Generator

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from cdc.change_group import Record
from events.partition import partition_for_key

try:
    from cdc import record_batch
except ImportError:
    # No C compiler when it was installed: aiokafka fills the batches.
    record_batch = None

_HEADER = struct.Struct(">qiibIhiqqqhii")
_ATTRIBUTES = struct.Struct(">hiqqqhii")
_LENGTH_END = 12
_CRC_END = 21
_MAGIC = 2
_TRANSACTIONAL = 0x10
_NO_LEADER_EPOCH = -1


class EncodedBatch(BatchBuilder):
    """A batch whose records are written already; the header waits for the producer's state."""

    def __init__(self, count: int, first_ms: int, last_ms: int, content: bytearray) -> None:
        self._count = count
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._content = content
        self._state = (-1, -1, -1)
        self._closed = True

    def record_count(self) -> int:
        """Records in the batch."""
        return self._count

    def size(self) -> int:
        """Bytes, the header included."""
        return len(self._content)

    def _set_producer_state(
        self, producer_id: int, producer_epoch: int, base_sequence: int
    ) -> None:
        self._state = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        content = self._content
        _ATTRIBUTES.pack_into(
            content,
            _CRC_END,
            _TRANSACTIONAL,
            self._count - 1,
            self._first_ms,
            self._last_ms,
            *self._state,
            self._count,
        )
        crc = calc_crc32c(memoryview(content)[_CRC_END:])
        struct.pack_into(
            ">qiibI", content, 0, 0, len(content) - _LENGTH_END, _NO_LEADER_EPOCH, _MAGIC, crc
        )
        return content


def encode_batches(
    records: list[Record], partitions: int, bytes_max: int
) -> Generator[tuple[int, BatchBuilder]]:
    """Partitions and batches, in the order in which each partition's must be sent.

    A batch has at most so many bytes, or one record that is larger.
    """
    if record_batch is None:
        yield from _append_all(records, partitions, bytes_max)
        return
    for partition, count, first_ms, last_ms, content in record_batch.fill_batches(
        records, partitions, bytes_max
    ):
        yield partition, EncodedBatch(count, first_ms, last_ms, content)


def _append_all(
    records: list[Record], partitions: int, bytes_max: int
) -> Generator[tuple[int, BatchBuilder]]:
    open_batches: dict[int, BatchBuilder] = {}
    for key, value, headers, timestamp_ms in records:
        partition = 0 if key is None else partition_for_key(key, partitions)
        batch = open_batches.get(partition)
        if (
            batch is None
            or batch.append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None
        ):
            batch = BatchBuilder(bytes_max, 0, is_transactional=1)
            batch.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
            open_batches[partition] = batch
            yield partition, batch
