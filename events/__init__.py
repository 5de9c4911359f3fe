"""The contract between the rooms: what stands on Kafka and what a run is asked and answers.

Pure: bytes and values in, values out; no socket, no clock, no randomness. Every room imports
this one and it imports none of them, so a change here is a change of the contract
(docs/design.md, section 2) and belongs in one commit with that page.

Errors, all of them a mistake in what was given:

    EventsError(ValueError)
    ├── InvalidNameError  a name that no topic or event type can be made of
    ├── PatternError      an event pattern that means nothing
    ├── EventFormatError    bytes on Kafka that are not an event
    ├── InvalidSchemaError  a schema of events' data that is none
    ├── InvalidDataError    data that does not keep its event type's schema
    ├── TokenError          a token that is not accepted
    ├── MailError           a mail that cannot be written, or that its server does not take
    └── RecurrenceError     a period, cron expression or time zone that means nothing
"""
