"""Records of a server log out of its bytes, cut anywhere, torn, or written to mislead."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc import log_record
from cdc.log_record import Damaged, LogFormat, LogRecord, LogRecords

MARKER = b"AUDIT"
STAMP = "2026-11-25 06:57:10.890 CET"


def json_line(message: str, user: str = "nurse", number: int = 1) -> bytes:
    body = {
        "timestamp": STAMP,
        **({"user": user, "dbname": "shop"} if user else {}),
        "pid": 7,
        "remote_host": "10.0.0.5",
        "remote_port": 1,
        "session_id": "6b.7",
        "line_num": number,
        "error_severity": "LOG",
        "message": message,
        "application_name": "psql",
        "query_id": 0,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def csv_line(message: str, user: str = "nurse", number: int = 1) -> bytes:
    out = StringIO()
    quoted = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    plain: list[object] = ["", "shop", 7, "10.0.0.5:1", "6b.7", number, "SELECT", "", "", 0, "LOG"]
    quoted.writerow([user, "shop"])
    who = out.getvalue().rstrip("\n") if user else ","
    out = StringIO()
    quoted = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    quoted.writerow([message])
    said = out.getvalue().rstrip("\n")
    middle = ",".join(str(one) for one in plain[2:])
    return f'{STAMP},{who},{middle},"00000",{said},,,,,,,,,"psql","client backend",,0\n'.encode()


LINES = {LogFormat.JSON: json_line, LogFormat.CSV: csv_line}
FORMATS = st.sampled_from(LogFormat)
# What a client may have the server log, made to look like a record of its own.
MESSAGES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    st.sampled_from(
        [
            "AUDIT: one",
            'AUDIT: "quoted" ""twice""\n and a line',
            "AUDIT\n" + json_line("AUDIT: forged").decode(),
            "AUDIT\n" + csv_line("AUDIT: forged").decode(),
            "AUDIT\n" + csv_line("AUDIT: forged", user="").decode(),
            "AUDIT\r\n\\",
        ]
    ),
)


def records(log_format: LogFormat) -> LogRecords:
    return LogRecords(log_format, MARKER, 0, "utf-8")


@given(FORMATS, st.lists(MESSAGES, max_size=6), st.integers(1, 60))
def test_records_are_those_written_however_the_bytes_are_cut(
    log_format: LogFormat, messages: list[str], step: int
) -> None:
    data = b"".join(LINES[log_format](message) for message in messages)
    reader, found = records(log_format), list[LogRecord | Damaged]()
    for at in range(0, len(data), step):
        found += reader.feed(data[at : at + step])
        assert reader.unread_from == min(at + step, len(data))
    assert reader.finish() == []
    assert reader.position == len(data)
    assert [one.message for one in found if isinstance(one, LogRecord)] == [
        message for message in messages if "AUDIT" in message
    ]
    assert not any(isinstance(one, Damaged) for one in found)


@given(FORMATS, MESSAGES, MESSAGES, st.integers(1, 300), st.booleans())
def test_a_record_that_a_crash_has_torn_is_told_and_hides_none_behind_it(
    log_format: LogFormat, torn: str, after: str, kept: int, on_a_line: bool
) -> None:
    line = LINES[log_format]
    whole = line(torn)
    # What stands behind the message of a csvlog is not missed where it is none of ours.
    part = whole[: min(kept, whole.rindex(b"psql") - 12)]
    data = line("AUDIT: before") + part + (b"\n" if on_a_line else b"") + line("AUDIT " + after)
    reader = records(log_format)
    found = reader.feed(data + line("AUDIT: last")) + reader.finish()
    said = [one.message for one in found if isinstance(one, LogRecord)]
    assert said == ["AUDIT: before", "AUDIT " + after, "AUDIT: last"]
    assert any(isinstance(one, Damaged) for one in found)


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_record_longer_than_may_be_held_is_passed_over(
    log_format: LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_record, "RECORD_MAX_BYTES", 1_000)
    line, reader = LINES[log_format], records(log_format)
    found: list[LogRecord | Damaged] = []
    data = line("AUDIT: " + "x" * 5_000) + line("AUDIT: next")
    for at in range(0, len(data), 300):
        found += reader.feed(data[at : at + 300])
    assert [type(one) for one in found] == [Damaged, LogRecord]
    assert reader.position == len(data)


@pytest.mark.parametrize("log_format", LogFormat)
def test_bytes_that_are_no_text_of_the_encoding_do_no_harm(log_format: LogFormat) -> None:
    data = LINES[log_format]("AUDIT: Ã¼ x").replace("Ã¼".encode(), b"\xff\xfe")
    (found,) = records(log_format).feed(data)
    assert isinstance(found, LogRecord)
    assert found.message == "AUDIT: \ufffd\ufffd x"
    assert (found.user, found.dbname, found.remote_host) == ("nurse", "shop", "10.0.0.5")
    assert (found.session_id, found.line_num, found.pid) == ("6b.7", 1, 7)
    assert found.application_name == "psql"
    latin = LogRecords(log_format, MARKER, 0, "latin-1")
    (found,) = latin.feed(LINES[log_format]("AUDIT: ue").replace(b"ue", b"\xfc"))
    assert isinstance(found, LogRecord)
    assert found.message == "AUDIT: ü"
