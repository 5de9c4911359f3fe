"""Where Kafka is and how our topics are made there: the one value every room is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from events.names import encode_segment
from events.topic import Topics


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster as this installation uses it.

    `bootstrap` is `host:port[,host:port]`; `group_prefix` and `Topics.prefix` keep installations
    on one cluster apart; `sources` are the names of the captured sources, `undivided` of those
    whose new topics get one partition each. `reads_retention_ms` is how long topics of reads are
    kept, -1 for ever, None as the broker or whoever made the topic says.
    """

    bootstrap: str
    topics: Topics = field(default_factory=Topics)
    sources: tuple[str, ...] = ()
    partitions: int = 4
    replication: int = 1
    metadata_max_age_ms: int = 1_000
    undivided: tuple[str, ...] = ()
    reads_retention_ms: int | None = None

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic of changes or events gets when it is made."""
        owners = (encode_segment(source) + "." for source in self.undivided)
        return 1 if topic.startswith(tuple(owners)) else self.partitions

    @property
    def router_group(self) -> str:
        """Consumer group of the routers."""
        return f"{self.topics.prefix}-router"
