"""What PostgreSQL says when a statement fails, as the guest reads it."""

from __future__ import annotations

from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from listener_runtime.errors import HostCallError

READ_ONLY_TRANSACTION = "25006"
UNIQUE_VIOLATION = "23505"
INDETERMINATE_TYPE = "42P18"


class StatementError(HostCallError):
    """The statement `sql` failed; `sqlstate` is PostgreSQL's code.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """

    def __init__(self, message: str, sqlstate: str, sql: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.sql = sql


def statement_error(result: PGresult, sql: str) -> StatementError:
    """The error that a failed result holds; `sql` is the statement it belongs to."""

    def said(field: DiagnosticField) -> str:
        return (result.error_field(field) or b"").decode(errors="replace")

    sqlstate = said(DiagnosticField.SQLSTATE)
    lines = [
        f"PostgreSQL {sqlstate}: {said(DiagnosticField.MESSAGE_PRIMARY)}"
        if sqlstate
        else result.get_error_message().strip()
    ]
    for name, field in (
        ("detail", DiagnosticField.MESSAGE_DETAIL),
        ("hint", DiagnosticField.MESSAGE_HINT),
        ("where", DiagnosticField.CONTEXT),
    ):
        if text := said(field):
            lines.append(f"{name}: {text}")
    position = said(DiagnosticField.STATEMENT_POSITION)
    if position.isdigit():
        lines.append(_at(sql, int(position)))
    return StatementError("\n".join(lines), sqlstate, sql)


def _at(sql: str, position: int) -> str:
    """The line of a statement in which its position-th character (from 1) stands."""
    before = sql[: position - 1]
    number = before.count("\n") + 1
    line = sql.split("\n")[number - 1]
    column = position - 1 - (before.rfind("\n") + 1)
    start = max(0, column - 60)
    return f"line {number}: {line[start : column + 60]}\n{' ' * (column - start + 8)}^"
