"""Row changes and messages for web and mobile clients, over WebSockets, without a gap.

Pure: the protocol (JSON in, typed messages out), conditions, the index of registrations,
positions, the outbox, the fan-out. Shells: the tail of Kafka that all connections share, the
catch-up of one registration, the connection. What a client may rely on stands in docs/push.md.

Errors:

    PushError(Exception)
    ├── MessageError      a client's message that means nothing; answered, the connection stays
    └── UnavailableError  Kafka is not reached, which only catching up needs; the client asks again
"""
