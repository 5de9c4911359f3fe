"""An entry that pgaudit has written to the log: which statement touched which relation.

`AUDIT: OBJECT,` and CSV: statement and substatement of the session (from 1), class, command, type
and name of the object, statement, parameters, and, where pgaudit.log_rows is on, rows
(https://github.com/pgaudit/pgaudit, "Format"). Pure.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from io import StringIO

from cdc.errors import SourceFormatError

ENTRY_MARKER = b"AUDIT: OBJECT,"
"""What a record with such an entry contains."""

_PREFIX = "AUDIT: OBJECT,"
_FIELDS = 8
_NOT_LOGGED = ("<not logged>", "<previously logged>")
_NO_PARAMETERS = "<none>"
_IDENTIFIER = r'(?:"((?:[^"]|"")*)"|([^".]+))'
_NAME = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """`statement` and `parameters` are None where pgaudit was told not to log them.

    A parameter that is null, and one that is empty, are the empty text.
    """

    number: int
    part: int
    is_read: bool
    command: str
    schema: str
    relation: str
    statement: str | None
    parameters: tuple[str, ...] | None
    rows: int | None

    @property
    def table(self) -> tuple[str, str]:
        """Schema and name of the relation."""
        return self.schema, self.relation

    @classmethod
    def parse(cls, message: str) -> AuditEntry | None:
        """The entry that a message of the log is, None where it is none of an object.

        Raises SourceFormatError where it begins like one and cannot be read.
        """
        if not message.startswith(_PREFIX):
            return None
        try:
            number, part, kind, command, _, name, statement, parameters, *rows = _csv(
                message.removeprefix(_PREFIX)
            )
            schema, relation = _qualified(name)
            return cls(
                number=int(number),
                part=int(part),
                is_read=kind == "READ",
                command=command,
                schema=schema,
                relation=relation,
                statement=None if statement in _NOT_LOGGED else statement,
                parameters=_parameters(parameters),
                rows=int(rows[0]) if rows and rows[0].isdecimal() else None,
            )
        except (ValueError, csv.Error, StopIteration) as error:
            raise SourceFormatError(
                f"found an entry of pgaudit that cannot be read ({error}), expected "
                f"{_FIELDS} fields or {_FIELDS + 1} behind {_PREFIX}"
            ) from error


def _csv(text: str) -> list[str]:
    return next(csv.reader(StringIO(text, newline=""), strict=True))


def _parameters(text: str) -> tuple[str, ...] | None:
    if text in _NOT_LOGGED:
        return None
    return () if text == _NO_PARAMETERS else tuple(_csv(text)) or ("",)


def _qualified(name: str) -> tuple[str, str]:
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise ValueError(f"the object's name is {name!r}")
    quoted_schema, schema, quoted_relation, relation = matched.groups()
    return (
        schema or str(quoted_schema).replace('""', '"'),
        relation or str(quoted_relation).replace('""', '"'),
    )
