"""Where Kafka is and how our topics are made there: the one value every room is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from events.topic import Topics


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster as this installation uses it.

    `bootstrap` is `host:port[,host:port]`; `group_prefix` and `Topics.prefix` keep installations
    on one cluster apart; `sources` are the names of the captured sources.
    """

    bootstrap: str
    topics: Topics = field(default_factory=Topics)
    sources: tuple[str, ...] = ()
    partitions: int = 4
    replication: int = 1
    metadata_max_age_ms: int = 1_000

    @property
    def router_group(self) -> str:
        """Consumer group of the routers."""
        return f"{self.topics.prefix}-router"
