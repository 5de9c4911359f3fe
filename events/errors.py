"""The exceptions of the contract; their tree is drawn in the package's docstring."""


class EventsError(ValueError):
    """Something given does not keep the contract."""


class InvalidNameError(EventsError):
    """A name that no topic or event type can be made of."""


class PatternError(EventsError):
    """An event pattern that means nothing."""


class EventFormatError(EventsError):
    """Bytes on Kafka that are not an event."""


class TokenError(EventsError):
    """A token that is not accepted."""


class TokenTimeError(TokenError):
    """A token that is right, and not at this time."""


class RecurrenceError(EventsError):
    """A period, cron expression or time zone that means nothing."""


class InvalidSchemaError(EventsError):
    """What is to be the JSON Schema of an event's data is none."""


class MailError(EventsError):
    """A mail that cannot be written, or that its server does not take."""


class InvalidDataError(EventsError):
    """An event's data does not keep the schema of its type; `path` says where."""

    def __init__(self, event_type: str, path: str, problem: str) -> None:
        super().__init__(f"the data of {event_type} does not keep its schema: {problem}, at {path}")
        self.path = path
        self.problem = problem
