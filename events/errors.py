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


class RecurrenceError(EventsError):
    """A period, cron expression or time zone that means nothing."""
