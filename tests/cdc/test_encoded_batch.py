"""Batches filled in compiled code hold what aiokafka's own would."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from cdc import encoded_batch
from cdc.change_group import Record
from cdc.encoded_batch import encode_batches
from events.partition import partition_for_key

BATCH_BYTES = 2_000

records = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=20)), max_size=2),
        st.integers(0, 2**45),
    ),
    max_size=40,
)


def read(made: list[Record], partitions: int) -> dict[int, list[object]]:
    """What a consumer reads, by partition."""
    found: dict[int, list[object]] = {}
    for partition, batch in list(encode_batches(made, partitions, BATCH_BYTES)):
        batch._set_producer_state(77, 3, 5)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        assert batch.closed() or batch.close() is None
        read_batch = DefaultRecordBatch(bytes(batch._build()))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        assert read_batch.validate_crc()
        assert read_batch.is_transactional
        assert (read_batch.producer_id, read_batch.producer_epoch) == (77, 3)
        told = [
            (record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
            for record in read_batch
        ]
        assert len(told) == batch.record_count()
        assert [offset for offset, *_ in told] == list(range(len(told)))
        assert read_batch.max_timestamp == max(record[1] for record in told)
        found.setdefault(partition, []).extend(rest for _, *rest in told)
    return found


@given(records, st.integers(1, 5))
def test_both_ways_hold_the_same_records_in_the_same_order(
    made: list[Record], partitions: int
) -> None:
    compiled = read(made, partitions)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoded_batch, "record_batch", None)
        assert read(made, partitions) == compiled


@given(st.binary(max_size=60), st.integers(1, 12))
def test_a_key_goes_to_the_partition_that_java_clients_choose(key: bytes, partitions: int) -> None:
    ((partition, _),) = encode_batches([(key, b"", [], 0)], partitions, BATCH_BYTES)
    assert partition == partition_for_key(key, partitions)


def test_no_batch_is_larger_than_asked_for_unless_one_record_is() -> None:
    made: list[Record] = [(b"k", b"x" * size, [], 0) for size in (900, 900, 900, 5_000, 10, 10)]
    batches = [batch for _, batch in encode_batches(made, 1, BATCH_BYTES)]
    assert [batch.record_count() for batch in batches] == [2, 1, 1, 2]
    assert [batch.size() <= BATCH_BYTES for batch in batches] == [True, True, False, True]
