"""The HTTP side: the data API over every captured table and collection, each call an event.

Pure: the query language (text in, tree out), SQL made of a tree and the catalogue, media, ranges,
bodies, the events of calls. Shells: one PostgreSQL or MongoDB source, the journal that brings
events to Kafka, the ASGI applications. What a client may rely on stands in docs/api.md.

Errors, each an answer in PostgREST's form (code, message, details, hint):

    ApiError(Exception)
    ├── QuerySyntaxError        a query string that cannot be read (400)
    ├── UnknownNameError        a name that the catalogue does not hold; it is read anew, once
    ├── EventsUnavailableError  Kafka does not take the call's event (503)
    ├── EffectsLostError        Kafka failed before what a call leaves was committed (503)
    ├── RefusedError            a hook refused the call (403 unless it says another)
    └── SourceUnavailableError  the database is not reached (503)
        └── CommitUnknownError  the connection broke during the commit

    ApiDefinitionError(Exception)   a definition that means nothing; a user's file or a record
"""
