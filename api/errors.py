"""The room's exceptions; their tree is drawn in the package's docstring."""

from __future__ import annotations

from events.json_codec import JsonObject


class ApiError(Exception):
    """A call that is answered with an error, in PostgREST's form.

    `status` is HTTP's, `code` PostgREST's (`PGRST...`) or PostgreSQL's SQLSTATE.
    https://docs.postgrest.org/en/stable/references/errors.html
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: str | None = None,
        hint: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint
        self.headers = headers

    def body(self) -> JsonObject:
        """What the client is answered."""
        return {
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "hint": self.hint,
        }


class ApiDefinitionError(Exception):
    """A definition that the HTTP side serves and that means nothing."""


class UnknownNameError(ApiError):
    """A name that the catalogue does not hold, perhaps since it was read too long ago."""


class QuerySyntaxError(ApiError):
    """A query string that cannot be read."""

    def __init__(self, what: str, text: str, column: int, problem: str) -> None:
        super().__init__(
            400,
            "PGRST100",
            f'"failed to parse {what} ({text[:200]})" (line 1, column {column + 1})',
            details=problem,
            hint="The query language is described in docs/api.md",
        )


class EventsUnavailableError(ApiError):
    """Kafka does not take the call's event, so the call is not carried out."""

    def __init__(self, details: str) -> None:
        super().__init__(
            503,
            "RC001",
            "Kafka does not take API events, so the call was refused",
            details=details,
            hint="Nothing was changed; repeat the call when Kafka is back",
            headers=(("retry-after", "2"),),
        )


class EventTooLargeError(ApiError):
    """An event that may not be shortened is larger than Kafka takes."""

    def __init__(self, size_bytes: int, limit: str) -> None:
        super().__init__(
            413,
            "RC413",
            f"found an event of {size_bytes} bytes, expected at most {limit}",
            hint="Put what is large elsewhere and its address into the event; other events of "
            "the same call may be there",
        )


class EffectsLostError(ApiError):
    """Kafka did not take what a call leaves, or failed while it was committed (`is_known`)."""

    def __init__(self, details: str, *, is_known: bool) -> None:
        super().__init__(
            503,
            "RC002",
            "Kafka failed before what the call leaves was committed",
            details=details,
            hint="What its code wrote into databases is there, its events are not"
            if is_known
            else "What its code wrote into databases is there, whether its events are is not known",
            headers=(("retry-after", "2"),),
        )


class RefusedError(ApiError):
    """A hook refused the call."""


class SourceUnavailableError(ApiError):
    """The database of a source is not reached."""

    def __init__(self, source: str, details: str) -> None:
        super().__init__(
            503,
            "PGRST000",
            f"The database of the source {source} was not reached",
            details=details,
            hint="Repeat the call later; `rowcast doctor` looks for what is wrong",
            headers=(("retry-after", "2"),),
        )
