"""What Rowcast runs on: the embedded Kafka, PostgreSQL and MongoDB, and how a program is started.

The embedded servers are the real ones, from package registries, for a laptop, a test or a first
evening; in production Rowcast is pointed at servers that somebody keeps.

Errors:

    InfraError(RuntimeError)
    ├── MissingArtifactError  something `make install` puts in place is not there
    └── ServerStartError      a server cannot be started as asked, with what it said
"""
