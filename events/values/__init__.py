"""PostgreSQL values as JSON: from the text form of a type to the bytes of a JSON value.

One file a family of types. An encoder takes the bytes of the output function, as pgoutput and
psycopg's text results give them, and never fails on them: what a family's form cannot hold (NaN,
BC, unusual array bounds) becomes PostgreSQL's own text in a JSON string. So any value, cast back
to its type, equals the column's; bytea alone is written in base64 and needs
`decode(value, 'base64')`. docs/design.md, section 2, is the contract.

The session must have the settings of `SESSION_SETTINGS`; the text form depends on them.
"""

SESSION_SETTINGS: dict[str, str] = {
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
}
"""https://www.postgresql.org/docs/current/runtime-config-client.html."""
