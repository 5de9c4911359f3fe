# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled way of rows: from a frame of the log to a record's key and value, without a loop in Python.

Does what decode_message and RowEncoder do for the plain cases of inserts, updates and deletes:
0.6 us for a row of six columns where they take 4. Whatever is not plain (a changed key, a value
that an encoder refuses, bytes that are no message) is refused, and goes the long way, which alone
knows errors. tests/cdc/test_row_path.py holds both to the same bytes; where there is no compiler
everything goes the long way. The text of the types is told in events/values.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_Append
from libc.stdint cimport int64_t, uint8_t, uint32_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    void PyObject_GC_UnTrack(void *value)

ctypedef int (*GetCopyData)(void *connection, char **buffer, int nonblocking) noexcept nogil
ctypedef int (*ConsumeInput)(void *connection) noexcept nogil
ctypedef void (*FreeMemory)(void *buffer) noexcept nogil

# How a column's text becomes JSON: the numbers of ENCODINGS.
cdef enum Encoding:
    BY_CALL = 0
    INTEGER = 1
    PLAIN = 2
    TEXT = 3
    BOOLEAN = 4
    FLOAT = 5
    TIMESTAMP = 6
    TIMESTAMPTZ = 7
    JSON = 8

DEF LOG_DATA_START = 25

cdef enum:
    NULL_VALUE = -1
    UNCHANGED_VALUE = -2
    JSON_DEPTH = 64
    JSON_DIGITS = 15

cdef struct Value:
    const uint8_t *at
    Py_ssize_t size

cdef list NO_HEADERS = []

# As in compiled_rows.py.
cdef enum Status:
    DRAINED = 0
    LIMIT = 1
    FRAME = 2
    ENDED = 3
    FAILED = 4


cdef class Output:
    """Bytes that grow; never shrunk, since the next row is as large."""

    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    def __cinit__(self):
        self.capacity = 4096
        self.data = <uint8_t *>malloc(self.capacity)
        if self.data == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.data)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity = self.capacity
        cdef uint8_t *data
        if self.size + more <= capacity:
            return 0
        while capacity < self.size + more:
            capacity *= 2
        data = <uint8_t *>realloc(self.data, capacity)
        if data == NULL:
            raise MemoryError
        self.data = data
        self.capacity = capacity
        return 0

    cdef int put(self, const void *source, Py_ssize_t size) except -1:
        self.reserve(size)
        memcpy(self.data + self.size, source, size)
        self.size += size
        return 0

    cdef int put_bytes(self, bytes source) except -1:
        return self.put(PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))


cdef class Columns:
    """A JSON object of some columns of a row, each with what stands before its value."""

    cdef int count
    cdef int *index
    cdef list prefixes

    def __cinit__(self, list names, indexes):
        cdef int place
        self.count = len(indexes)
        self.index = <int *>malloc(max(1, self.count) * sizeof(int))
        if self.index == NULL:
            raise MemoryError
        self.prefixes = []
        for place, column in enumerate(indexes):
            self.index[place] = column
            self.prefixes.append((b"," if place else b"{") + names[column] + b":")

    def __dealloc__(self):
        free(self.index)


cdef class Table:
    """What rows of one relation need; made from a RowEncoder's parts."""

    cdef object topic
    cdef int count
    cdef uint8_t *encodings
    cdef list encoders
    cdef list names
    cdef Columns row
    cdef Columns key
    cdef Columns identity
    cdef bytes created
    cdef bytes created_end
    cdef bytes updated
    cdef bytes deleted
    cdef bytes source
    cdef Value *new
    cdef Value *old
    cdef object records
    cdef object group

    def __cinit__(
        self, topic, list names, encodings, list encoders, key, identity,
        bytes created, bytes created_end, bytes updated, bytes deleted, bytes source,
    ):
        self.topic = topic
        self.count = len(names)
        self.names = names
        self.encoders = encoders
        self.row = Columns(names, range(self.count))
        self.key = Columns(names, key)
        self.identity = Columns(names, identity)
        self.created, self.created_end = created, created_end
        self.updated, self.deleted, self.source = updated, deleted, source
        self.encodings = <uint8_t *>malloc(max(1, self.count))
        self.new = <Value *>malloc(max(1, self.count) * sizeof(Value))
        self.old = <Value *>malloc(max(1, self.count) * sizeof(Value))
        if self.encodings == NULL or self.new == NULL or self.old == NULL:
            raise MemoryError
        for index, encoding in enumerate(encodings):
            self.encodings[index] = encoding

    def __dealloc__(self):
        free(self.encodings)
        free(self.new)
        free(self.old)


cdef class RowPath:
    """The tables and the transaction that rows belong to, and what was made of them.

    Between `begin` and `end` the rows of tables that were defined are taken in; `group` takes
    their records, whose numbers `settle` tells it.
    """

    cdef dict tables
    cdef Table last
    cdef uint32_t last_oid
    cdef Output value
    cdef Output changed
    cdef bint open
    cdef bytes head
    cdef bytes tail
    cdef bytes finish
    cdef list headers
    cdef Py_ssize_t headers_size
    cdef object timestamp_ms
    cdef object group
    cdef object window
    cdef readonly object frame
    cdef public int64_t ordinal
    cdef public int64_t record_count
    cdef public int64_t size_bytes

    def __cinit__(self):
        self.tables = {}
        self.value = Output()
        self.changed = Output()
        self.finish = b""

    def define(self, uint32_t oid, Table table):
        """Rows of a relation are encoded so from now on."""
        self.tables[oid] = table
        self.last = None

    def forget(self, uint32_t oid):
        """Rows of a relation go the long way from now on."""
        self.tables.pop(oid, None)
        self.last = None

    def begin(self, bytes head, bytes tail, list headers, Py_ssize_t headers_size, timestamp_ms):
        """Rows of a transaction follow; `ordinal` is that of the last change before them."""
        self.head, self.tail = head, tail
        self.headers = headers if headers else NO_HEADERS
        self.headers_size = headers_size
        self.timestamp_ms = timestamp_ms
        self.open = True

    def end(self):
        """What follows goes the long way."""
        self.open = False

    def set_end(self, bytes end):
        """What the envelopes end with from now on."""
        self.finish = end

    def set_group(self, group):
        """Where records go from now on."""
        self.group = group
        self.record_count = self.size_bytes = 0

    def set_window(self, window):
        """What takes note of the rows' keys; None for nothing."""
        self.window = window

    def feed(self, bytes data, Py_ssize_t start=0):
        """Take in a message, from `start` of the bytes on; False where it goes the long way."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        if start >= size:
            return False
        return self.take(<const uint8_t *>PyBytes_AS_STRING(data) + start, size - start)

    def drain(
        self, uintptr_t connection, uintptr_t get_copy_data, uintptr_t consume_input,
        uintptr_t free_memory, int frames_max, int64_t records_max, int64_t bytes_max,
    ):
        """Take in frames of libpq's COPY until one is for the caller, or none is there.

        Addresses are of the PGconn and of PQgetCopyData, PQconsumeInput and PQfreemem. One of
        DRAINED, LIMIT, FRAME, ENDED and FAILED.
        """
        cdef char *buffer = NULL
        cdef int size
        cdef int taken = 0
        cdef bint consumed = False
        cdef void *pg = <void *>connection
        while True:
            if taken >= frames_max or self.record_count >= records_max \
                    or self.size_bytes >= bytes_max:
                return LIMIT
            size = (<GetCopyData>get_copy_data)(pg, &buffer, 1)
            if size > 0:
                consumed = False
                taken += 1
                try:
                    if (
                        self.open
                        and size > LOG_DATA_START
                        and buffer[0] == c"w"
                        and self.take(<const uint8_t *>buffer + LOG_DATA_START, size - LOG_DATA_START)
                    ):
                        continue
                    self.frame = PyBytes_FromStringAndSize(buffer, size)
                finally:
                    (<FreeMemory>free_memory)(buffer)
                return FRAME
            if size == -1:
                return ENDED
            if size < 0:
                return FAILED
            if consumed:
                return DRAINED
            if not (<ConsumeInput>consume_input)(pg):
                return FAILED
            consumed = True

    def read_lines(
        self, Table table, list lines, bytes head, bytes middle, bytes tail, digest, list rows,
        long_way,
    ):
        """Lines of COPY as identities and envelopes of a snapshot, in a table with a key.

        `digest` is hashlib's, of the table, which a key's id is made of; `long_way` makes a row
        of a line that is not plain.
        """
        cdef bytes line, identity
        cdef const char *hexadecimal
        cdef Py_ssize_t size
        cdef Output out = self.value
        for line in lines:
            if not _line(
                <const uint8_t *>PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line), table.count,
                table.new,
            ):
                rows.append(long_way(line))
                continue
            out.size = 0
            if not self.object(table, table.key, table.new):
                rows.append(long_way(line))
                continue
            identity = PyBytes_FromStringAndSize(<char *>out.data, out.size)
            hashed = digest.copy()
            hashed.update(identity)
            text = hashed.hexdigest()
            hexadecimal = PyUnicode_AsUTF8AndSize(text, &size)
            out.size = 0
            out.put_bytes(head)
            out.put(hexadecimal, size)
            out.put_bytes(middle)
            if not self.object(table, table.row, table.new):
                rows.append(long_way(line))
                continue
            out.put_bytes(table.created_end)
            out.put_bytes(tail)
            row = (identity, PyBytes_FromStringAndSize(<char *>out.data, out.size))
            PyObject_GC_UnTrack(<void *>row)
            PyList_Append(rows, row)

    cdef bint take(self, const uint8_t *data, Py_ssize_t size) except -1:
        cdef uint32_t oid
        cdef Table table
        cdef uint8_t kind = data[0]
        if not self.open or size < 8 or (kind != c"I" and kind != c"U" and kind != c"D"):
            return False
        oid = _u32(data + 1)
        if self.last is not None and oid == self.last_oid:
            table = self.last
        else:
            table = self.tables.get(oid)
            if table is None:
                return False
            self.last, self.last_oid = table, oid
        if self.window is not None and table.key.count == 0:
            return False
        if kind == c"I":
            return self.insert(table, data, size)
        if kind == c"U":
            return self.update(table, data, size)
        return self.delete(table, data, size)

    cdef bint insert(self, Table table, const uint8_t *data, Py_ssize_t size) except -1:
        if data[5] != c"N" or _row(data, 6, size, table.count, table.new) != size:
            return False
        if _has_unchanged(table.new, table.count):
            return False
        self.start(table.created)
        if not self.object(table, table.row, table.new):
            return False
        self.value.put_bytes(table.created_end)
        return self.finished(table, table.new)

    cdef bint update(self, Table table, const uint8_t *data, Py_ssize_t size) except -1:
        cdef Py_ssize_t position = 5
        cdef bint old_is_full = data[5] == c"O"
        cdef int index
        cdef Value *new = table.new
        cdef Value *old = table.old
        cdef bint missing = False
        cdef Output changed = self.changed
        if old_is_full:
            position = _row(data, 6, size, table.count, old)
            if position < 0 or _has_unchanged(old, table.count):
                return False
        if position >= size or data[position] != c"N":
            return False
        if _row(data, position + 1, size, table.count, new) != size:
            return False
        self.start(table.updated)
        if not old_is_full:
            self.value.put(b',"before":null,"after":', 23)
            for index in range(table.key.count):
                if new[table.key.index[index]].size == UNCHANGED_VALUE:
                    return False
            if not self.object(table, table.row, new):
                return False
            self.value.put(b',"changed":null,"unavailable":[', 31)
            for index in range(table.count):
                if new[index].size == UNCHANGED_VALUE:
                    if missing:
                        self.value.put(b",", 1)
                    missing = True
                    self.value.put_bytes(table.names[index])
        else:
            changed.size = 0
            for index in range(table.count):
                if new[index].size == UNCHANGED_VALUE:
                    new[index] = old[index]
                elif not _same(&new[index], &old[index]):
                    if changed.size:
                        changed.put(b",", 1)
                    changed.put_bytes(table.names[index])
            for index in range(table.key.count):
                if not _same(&new[table.key.index[index]], &old[table.key.index[index]]):
                    return False
            self.value.put(b',"before":', 10)
            if not self.object(table, table.row, old):
                return False
            self.value.put(b',"after":', 9)
            if not self.object(table, table.row, new):
                return False
            self.value.put(b',"changed":[', 12)
            self.value.put(changed.data, changed.size)
            self.value.put(b'],"unavailable":[', 17)
        self.value.put(b"]", 1)
        self.value.put_bytes(table.source)
        return self.finished(table, new)

    cdef bint delete(self, Table table, const uint8_t *data, Py_ssize_t size) except -1:
        cdef bint old_is_full = data[5] == c"O"
        if not old_is_full and data[5] != c"K":
            return False
        if _row(data, 6, size, table.count, table.old) != size:
            return False
        if _has_unchanged(table.old, table.count):
            return False
        self.start(table.deleted)
        self.value.put(b',"before":', 10)
        if not self.object(table, table.row if old_is_full else table.identity, table.old):
            return False
        self.value.put(b',"after":null,"changed":null,"unavailable":[]', 45)
        self.value.put_bytes(table.source)
        return self.finished(table, table.old)

    cdef int start(self, bytes middle) except -1:
        self.value.size = 0
        self.value.put_bytes(self.head)
        self.decimal(self.ordinal + 1)
        return self.value.put_bytes(middle)

    cdef bint finished(self, Table table, Value *key_row) except -1:
        cdef Py_ssize_t size
        cdef object key = None
        cdef Output value = self.value
        value.put_bytes(self.tail)
        self.decimal(self.ordinal + 1)
        value.put_bytes(self.finish)
        size = value.size
        if table.key.count:
            # Behind the value, so that it needs no room of its own.
            if not self.object(table, table.key, key_row):
                return False
            key = PyBytes_FromStringAndSize(<char *>value.data + size, value.size - size)
        if table.group is not self.group:
            table.group = self.group
            table.records = self.group.records.setdefault(table.topic, [])
        self.ordinal += 1
        self.record_count += 1
        self.size_bytes += value.size + self.headers_size
        record = (
            key,
            PyBytes_FromStringAndSize(<char *>value.data, size),
            self.headers,
            self.timestamp_ms,
        )
        # No cycle can go through it, and the collector's visits were a fifth of capture's time.
        PyObject_GC_UnTrack(<void *>record)
        PyList_Append(table.records, record)
        if self.window is not None:
            self.window.touch(table.topic, key)
        return True

    cdef int decimal(self, int64_t number) except -1:
        cdef uint8_t digits[20]
        cdef int at = 20
        while True:
            at -= 1
            digits[at] = 48 + number % 10
            number //= 10
            if number == 0:
                break
        return self.value.put(&digits[at], 20 - at)

    cdef bint object(self, Table table, Columns columns, Value *values) except -1:
        """Write some columns as a JSON object; False where one of them goes the long way."""
        cdef int place, index
        cdef Output out = self.value
        cdef bint first = True
        cdef bytes prefix
        for place in range(columns.count):
            index = columns.index[place]
            if values[index].size == UNCHANGED_VALUE:
                continue
            prefix = <bytes>columns.prefixes[place]
            out.put_bytes(prefix)
            if first and place:
                # Columns before it are left out.
                out.data[out.size - PyBytes_GET_SIZE(prefix)] = c"{"
            first = False
            if values[index].size == NULL_VALUE:
                out.put(b"null", 4)
            elif not self.encode(table, index, values[index].at, values[index].size):
                return False
        if first:
            out.put(b"{", 1)
        out.put(b"}", 1)
        return True

    cdef bint encode(
        self, Table table, int index, const uint8_t *raw, Py_ssize_t size
    ) except -1:
        cdef uint8_t encoding = table.encodings[index]
        cdef Output out = self.value
        if encoding == INTEGER:
            out.put(raw, size)
        elif encoding == TEXT:
            return _put_text(out, raw, size)
        elif encoding == PLAIN:
            out.reserve(size + 2)
            out.put(b'"', 1)
            out.put(raw, size)
            out.put(b'"', 1)
        elif encoding == TIMESTAMPTZ:
            if size < 22 or raw[10] != c" " or memcmp(raw + size - 3, b"+00", 3) != 0:
                return self.call(table, index, raw, size)
            _put_time(out, raw, size - 3)
            out.put(b'Z"', 2)
        elif encoding == TIMESTAMP:
            if size < 19 or raw[10] != c" " or raw[size - 1] == c"C":
                return self.call(table, index, raw, size)
            _put_time(out, raw, size)
            out.put(b'"', 1)
        elif encoding == BOOLEAN:
            if raw[0] == c"t" and size == 1:
                out.put(b"true", 4)
            else:
                out.put(b"false", 5)
        elif encoding == FLOAT:
            if size == 0 or raw[size - 1] == c"y" or raw[size - 1] == c"N" \
                    or (size == 2 and raw[0] == c"-" and raw[1] == c"0"):
                return self.call(table, index, raw, size)
            out.put(raw, size)
        elif encoding == JSON:
            if not _is_plain_json(raw, size):
                return self.call(table, index, raw, size)
            out.put(raw, size)
        else:
            return self.call(table, index, raw, size)
        return True

    cdef bint call(self, Table table, int index, const uint8_t *raw, Py_ssize_t size) except -1:
        try:
            self.value.put_bytes(
                table.encoders[index](PyBytes_FromStringAndSize(<const char *>raw, size))
            )
        except ValueError:
            return False
        return True


cdef inline uint32_t _u32(const uint8_t *at) noexcept:
    return (
        (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]
    )


cdef Py_ssize_t _row(
    const uint8_t *data, Py_ssize_t position, Py_ssize_t size, int count, Value *values
) noexcept:
    """Where the values of a row stand; the position behind it, -1 where it is not plain."""
    cdef int index
    cdef uint8_t kind
    cdef Py_ssize_t length
    if position + 2 > size or ((data[position] << 8) | data[position + 1]) != count:
        return -1
    position += 2
    for index in range(count):
        if position >= size:
            return -1
        kind = data[position]
        position += 1
        if kind == c"t":
            if position + 4 > size:
                return -1
            length = _u32(data + position)
            position += 4
            if length > size - position:
                return -1
            values[index].at = data + position
            values[index].size = length
            position += length
        elif kind == c"n":
            values[index].size = NULL_VALUE
        elif kind == c"u":
            values[index].size = UNCHANGED_VALUE
        else:
            return -1
    return position


cdef bint _line(
    const uint8_t *data, Py_ssize_t size, int count, Value *values
) noexcept:
    """Where the values of a line of COPY stand; False where it is not plain, an escape say."""
    cdef int index = 0
    cdef Py_ssize_t position
    cdef Py_ssize_t start = 0
    cdef bint escaped = False
    if size == 0 or data[size - 1] != c"\n":
        return False
    for position in range(size):
        if data[position] == c"\t" or position == size - 1:
            if index >= count:
                return False
            values[index].at = data + start
            values[index].size = position - start
            if escaped:
                if position - start != 2 or data[start] != c"\\" or data[start + 1] != c"N":
                    return False
                values[index].size = NULL_VALUE
                escaped = False
            index += 1
            start = position + 1
        elif data[position] == c"\\":
            escaped = True
    return index == count


cdef bint _has_unchanged(const Value *values, int count) noexcept:
    cdef int index
    for index in range(count):
        if values[index].size == UNCHANGED_VALUE:
            return True
    return False


cdef bint _same(const Value *one, const Value *other) noexcept:
    if one.size != other.size:
        return False
    return one.size <= 0 or memcmp(one.at, other.at, one.size) == 0


cdef int _put_time(Output out, const uint8_t *raw, Py_ssize_t size) except -1:
    """A date, a time and a fraction in `size` bytes, with six digits of the fraction."""
    cdef Py_ssize_t digits = size - 20
    if digits < 0:
        digits = 0
    elif digits > 6:
        digits = 6
    out.reserve(32)
    out.put(b'"', 1)
    out.put(raw, 10)
    out.put(b"T", 1)
    out.put(raw + 11, 8)
    out.put(b".", 1)
    out.put(raw + 20, digits)
    return out.put(b"000000", 6 - digits)


cdef const char *HEXADECIMAL = b"0123456789abcdef"


cdef bint _put_text(Output out, const uint8_t *raw, Py_ssize_t size) except -1:
    """A JSON string, escaped as orjson does; False where it is not ASCII and not UTF-8."""
    cdef Py_ssize_t at = 0
    cdef uint8_t byte
    cdef uint8_t *to
    # The worst case: each byte an escape of six.
    out.reserve(size * 6 + 2)
    to = out.data + out.size
    to[0] = c'"'
    to += 1
    while at < size:
        byte = raw[at]
        if byte >= 0x80:
            at = _copy_utf8(raw, at, size, &to)
            if at < 0:
                return False
            continue
        at += 1
        if byte >= 0x20 and byte != c'"' and byte != c"\\":
            to[0] = byte
            to += 1
            continue
        to[0] = c"\\"
        if byte == c'"' or byte == c"\\":
            to[1] = byte
        elif byte == 0x0A:
            to[1] = c"n"
        elif byte == 0x09:
            to[1] = c"t"
        elif byte == 0x0D:
            to[1] = c"r"
        elif byte == 0x08:
            to[1] = c"b"
        elif byte == 0x0C:
            to[1] = c"f"
        else:
            to[1] = c"u"
            to[2] = c"0"
            to[3] = c"0"
            to[4] = HEXADECIMAL[byte >> 4]
            to[5] = HEXADECIMAL[byte & 15]
            to += 4
        to += 2
    to[0] = c'"'
    out.size = to + 1 - out.data
    return True


cdef Py_ssize_t _utf8_length(const uint8_t *raw, Py_ssize_t at, Py_ssize_t size) noexcept:
    """How many bytes a character past ASCII has, 0 where it is not UTF-8 (RFC 3629)."""
    cdef uint8_t first = raw[at]
    cdef uint8_t second
    cdef Py_ssize_t length
    if first < 0xC2 or first > 0xF4:
        return 0
    length = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if length > size - at:
        return 0
    second = raw[at + 1]
    if second & 0xC0 != 0x80:
        return 0
    if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
        return 0
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return 0
    if length > 2 and raw[at + 2] & 0xC0 != 0x80:
        return 0
    if length > 3 and raw[at + 3] & 0xC0 != 0x80:
        return 0
    return length


cdef Py_ssize_t _copy_utf8(
    const uint8_t *raw, Py_ssize_t at, Py_ssize_t size, uint8_t **to
) noexcept:
    cdef Py_ssize_t length = _utf8_length(raw, at, size)
    if length == 0:
        return -1
    memcpy(to[0], raw + at, length)
    to[0] += length
    return at + length


cdef bint _is_plain_json(const uint8_t *raw, Py_ssize_t size) noexcept:
    """Whether every reader takes a document of PostgreSQL's; where in doubt, not.

    Numbers are short and without an exponent, strings are UTF-8 without \\u, nesting is shallow.
    """
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t length
    cdef int depth = 0
    cdef int digits = 0
    cdef bint quoted = False
    cdef uint8_t byte
    while at < size:
        byte = raw[at]
        at += 1
        if quoted:
            if byte == c'"':
                quoted = False
            elif byte == c"\\":
                if at >= size or raw[at] == c"u":
                    return False
                at += 1
            elif byte >= 0x80:
                length = _utf8_length(raw, at - 1, size)
                if length == 0:
                    return False
                at += length - 1
            elif byte < 0x20:
                return False
            continue
        if c"0" <= byte <= c"9":
            digits += 1
            if digits > JSON_DIGITS:
                return False
            continue
        if byte == c".":
            continue
        digits = 0
        if byte == c'"':
            quoted = True
        elif byte == c"{" or byte == c"[":
            depth += 1
            if depth > JSON_DEPTH:
                return False
        elif byte == c"}" or byte == c"]":
            depth -= 1
        elif byte == c"E" or byte == c"e":
            # An exponent, or the end of true and false.
            if at < 2 or (raw[at - 2] != c"u" and raw[at - 2] != c"s"):
                return False
    return not quoted and depth == 0 and size > 0
