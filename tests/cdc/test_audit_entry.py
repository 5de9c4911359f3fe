from __future__ import annotations

import pytest

from cdc.audit_entry import AuditEntry
from cdc.errors import SourceFormatError


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "AUDIT: OBJECT,3,1,READ,SELECT,TABLE,public.patients,select 1,<not logged>",
            AuditEntry(3, 1, True, "SELECT", "public", "patients", "select 1", None, None),
        ),
        (
            (
                'AUDIT: OBJECT,3,2,READ,SELECT,TABLE,"""My.S"".""T""""q""",'
                '"a ""b"",\nc","1,,""x, y""",20'
            ),
            AuditEntry(*(3, 2, True, "SELECT", "My.S", 'T"q', 'a "b",\nc', ("1", "", "x, y"), 20)),
        ),
        (
            "AUDIT: OBJECT,9,1,WRITE,UPDATE,TABLE,public.t,<not logged>,<not logged>",
            AuditEntry(9, 1, False, "UPDATE", "public", "t", None, None, None),
        ),
        (
            "AUDIT: OBJECT,9,1,READ,SELECT,VIEW,public.v,<previously logged>,<none>,0",
            AuditEntry(9, 1, True, "SELECT", "public", "v", None, (), 0),
        ),
        ("AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,select 1,<none>", None),
        ("a client said AUDIT: OBJECT,1,1,READ,SELECT,TABLE,public.t,x,<none>", None),
    ],
)
def test_an_entry_is_read_as_pgaudit_wrote_it(message: str, expected: AuditEntry | None) -> None:
    assert AuditEntry.parse(message) == expected


@pytest.mark.parametrize("rest", ["", "1", "x,1,READ,SELECT,TABLE,a.b,c,d", "1,1,R,S,T,nodot,c,d"])
def test_what_begins_like_an_entry_and_is_none_is_refused(rest: str) -> None:
    with pytest.raises(SourceFormatError, match="entry of pgaudit"):
        AuditEntry.parse("AUDIT: OBJECT," + rest)
