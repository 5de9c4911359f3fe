"""What PostgreSQL says when a statement fails, as the client reads it.

Statuses are PostgREST's, but for what is no fault of ours: a statement that was stopped or that
asks for too much is 504, 413 or 503 instead of 500.
https://docs.postgrest.org/en/stable/references/errors.html#status-codes
"""

from __future__ import annotations

import re
from typing import Final

from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from api.errors import ApiError, UnknownNameError

_STATUSES: Final = {
    "25006": 405,  # a write in a transaction that only reads
    "23503": 409,  # foreign_key_violation
    "23505": 409,  # unique_violation
    "23P01": 409,  # exclusion_violation
    "42501": 403,  # insufficient_privilege
    "42P01": 404,  # undefined_table
    "57014": 504,  # query_canceled, which is the statement's time being over
    "55P03": 503,  # lock_not_available
    "53300": 503,  # too_many_connections
    "57P03": 503,  # cannot_connect_now
    "P0001": 400,  # raise_exception
}
_CLASSES: Final = {
    "08": 503,  # connection_exception
    "0L": 403,  # invalid_grantor
    "0P": 403,  # invalid_role_specification
    "28": 403,  # invalid_authorization_specification
    "40": 503,  # transaction_rollback: a deadlock, a serialization failure
    "53": 503,  # insufficient_resources
    "54": 413,  # program_limit_exceeded
    "57": 503,  # operator_intervention
    "58": 500,  # system_error
    "XX": 500,  # internal_error
}
_CHOSEN: Final = re.compile(r"PT([1-5][0-9]{2})")
_MISSING: Final = frozenset(("42703", "42P01", "42883"))


def statement_error(result: PGresult) -> ApiError:
    """The error that a failed result holds."""

    def said(field: DiagnosticField) -> str | None:
        return (result.error_field(field) or b"").decode(errors="replace") or None

    code = said(DiagnosticField.SQLSTATE) or "XX000"
    message = said(DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message().strip()
    details = said(DiagnosticField.MESSAGE_DETAIL)
    hint = said(DiagnosticField.MESSAGE_HINT) or _hint(code, message)
    kind = UnknownNameError if code in _MISSING else ApiError
    headers: tuple[tuple[str, str], ...] = ()
    if _status(code) == 503:
        headers = (("retry-after", "1"),)
    return kind(_status(code), code, message, details=details, hint=hint, headers=headers)


def _status(code: str) -> int:
    chosen = _CHOSEN.fullmatch(code)
    if chosen is not None:
        return int(chosen[1])
    return _STATUSES.get(code) or _CLASSES.get(code[:2], 400)


def _hint(code: str, message: str) -> str | None:
    if code == "22023" and message.startswith("role "):
        return "Make the roles anon, authenticated and service_role: docs/api.md, Roles"
    if code == "42501" and "row-level security" not in message:
        return "Grant the privilege to the role of the token, or use another token"
    if code == "57014":
        return "Ask for less, or add an index; http.statement_timeout_s bounds a call"
    return None
