"""The records of a server log, jsonlog or csvlog, out of its bytes as they are read.

A record may be written in part only: the last one of a log that grows, or one that a crash has
torn, which the next then follows on the same line. Neither may be taken for a whole one, and no
text inside a record, which is a client's, may look like the start of another: jsonlog escapes
quotes and line ends, csvlog doubles quotes, so an unescaped head is the server's own. Pure.
(https://www.postgresql.org/docs/current/runtime-config-logging.html)
"""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import dataclass
from enum import Enum
from io import StringIO

import msgspec

# The limit of the csv module (128 KiB) would refuse long statements; it has no other switch.
csv.field_size_limit(sys.maxsize)

_JSON_HEAD = b'{"timestamp":"'
# Time, then a user and a database in quotes: background processes have none, clients always do.
_CSV_HEAD = re.compile(
    rb'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^",\r\n]{1,12},"(?:[^"]|"")+","(?:[^"]|"")+",\d+,'
)
_CSV_START = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^\",\r\n]{1,12},")
# Up to application_name, the last that is needed; version 13 added one after it, 14 two more.
_CSV_COLUMNS = 23

RECORD_MAX_BYTES = 64 * 1024 * 1024
"""A longer record is passed over and reported, so that no statement can fill the memory."""


class LogFormat(Enum):
    """How a log is written: the name that PostgreSQL's settings have, the end of its files."""

    JSON = ("jsonlog", ".json")
    CSV = ("csvlog", ".csv")

    @property
    def destination(self) -> str:
        """In log_destination."""
        return self.value[0]

    @property
    def suffix(self) -> str:
        """Of its files."""
        return self.value[1]

    @property
    def other(self) -> LogFormat:
        """The one that the server may go over to."""
        return LogFormat.CSV if self is LogFormat.JSON else LogFormat.JSON

    @classmethod
    def of_file(cls, name: str) -> LogFormat:
        """The format of a file by its name."""
        return cls.CSV if name.endswith(cls.CSV.suffix) else cls.JSON


class LogRecord(msgspec.Struct, frozen=True):
    """One message of the log, with what there is of the session that caused it."""

    timestamp: str
    session_id: str
    line_num: int
    message: str
    pid: int
    user: str = ""
    dbname: str = ""
    remote_host: str | None = None
    application_name: str = ""


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes that are no whole record: one that was torn, or is too long."""

    position: int
    size_bytes: int


class LogRecords:
    """Bytes in, as they are read from `position` on; whole records out.

    Only records that contain `marker` are decoded; `codec` is the database's encoding.
    """

    def __init__(self, log_format: LogFormat, marker: bytes, position: int, codec: str) -> None:
        self._format = log_format
        self._marker = marker
        self._codec = codec
        self._rest = b""
        self._skipping = False
        self.position = position
        """Where the first byte stands that belongs to no record yet."""

    @property
    def unread_from(self) -> int:
        """Where to read on."""
        return self.position + len(self._rest)

    def feed(self, data: bytes) -> list[LogRecord | Damaged]:
        """The records that are whole with these bytes."""
        found: list[LogRecord | Damaged] = []
        buffer = self._rest + data if self._rest else data
        begin = 0
        for end in self._ends(buffer):
            self._take(buffer[begin:end], self.position + begin, found)
            begin = end
        self._rest = buffer[begin:]
        self.position += begin
        if len(self._rest) > RECORD_MAX_BYTES:
            if not self._skipping:
                found.append(Damaged(self.position, len(self._rest)))
            self._skipping = True
            self.position += len(self._rest)
            self._rest = b""
        return found

    def finish(self) -> list[LogRecord | Damaged]:
        """What is left at the end of a file that is not written any more."""
        if not self._rest:
            return []
        damaged = Damaged(self.position, len(self._rest))
        self.position += len(self._rest)
        self._rest = b""
        return [damaged]

    def _ends(self, buffer: bytes) -> list[int]:
        ends: list[int] = []
        if self._format is LogFormat.JSON:
            at = buffer.find(b"\n")
            while at >= 0:
                ends.append(at + 1)
                at = buffer.find(b"\n", at + 1)
            return ends
        begin, quoted = 0, False
        while (end := buffer.find(b"\n", begin) + 1) > 0:
            for head in _CSV_HEAD.finditer(buffer, begin, end):
                if quoted or head.start() > begin:
                    # The record before it was torn, perhaps inside its quotes.
                    ends.append(head.start())
                    begin, quoted = head.start(), False
            quoted ^= buffer.count(b'"', begin, end) % 2 == 1
            if not quoted:
                ends.append(end)
            begin = end
        return ends

    def _take(self, record: bytes, position: int, found: list[LogRecord | Damaged]) -> None:
        if self._skipping:
            self._skipping = False
            return
        if self._is_whole(record):
            if self._marker not in record:
                return
            decoded = self._decode(record)
            if decoded is not None:
                found.append(decoded)
                return
        elif not record.strip():
            return
        # Perhaps one that was torn, and a whole one behind it on the same line.
        start = self._last_head(record)
        found.append(Damaged(position, start or len(record)))
        if start:
            self._take(record[start:], position + start, found)

    def _is_whole(self, record: bytes) -> bool:
        if self._format is LogFormat.JSON:
            return (
                record.startswith(_JSON_HEAD)
                and record.endswith(b"}\n")
                and record.find(_JSON_HEAD, 1) < 0
            )
        return (
            _CSV_START.match(record) is not None
            and record.count(b",") >= _CSV_COLUMNS - 1
            and _CSV_HEAD.search(record, 1) is None
        )

    def _last_head(self, record: bytes) -> int:
        if self._format is LogFormat.JSON:
            return max(0, record.rfind(_JSON_HEAD))
        starts = [found.start() for found in _CSV_HEAD.finditer(record)]
        return starts[-1] if starts else 0

    def _decode(self, record: bytes) -> LogRecord | None:
        text = record.decode(self._codec, "replace")
        try:
            if self._format is LogFormat.JSON:
                return msgspec.json.decode(text, type=LogRecord)
            return _of_columns(next(csv.reader(StringIO(text, newline=""), strict=True)))
        except (msgspec.DecodeError, csv.Error, ValueError, StopIteration):
            return None


def _of_columns(columns: list[str]) -> LogRecord | None:
    """By the order of the csvlog table in PostgreSQL's manual."""
    if len(columns) < _CSV_COLUMNS:
        return None
    host, colon, _ = columns[4].rpartition(":")
    return LogRecord(
        timestamp=columns[0],
        session_id=columns[5],
        line_num=int(columns[6]),
        message=columns[13],
        pid=int(columns[3]),
        user=columns[1],
        dbname=columns[2],
        # `host:port`, or `[local]`.
        remote_host=(host if colon else columns[4]) or None,
        application_name=columns[22],
    )
