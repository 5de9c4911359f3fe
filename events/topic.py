"""Names of Kafka topics (docs/design.md, section 2).

Change topics are named after the source; our own carry a prefix, a setting, so that several
installations share a cluster.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from events.names import encode_segment

MAX_TOPIC_LENGTH = 249
"""Kafka's own limit (org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH)."""

_KEPT_LENGTH = 200
_READS_SUFFIX = ".reads"
# A name that was cut may have lost the dots between its segments.
_SHORTENED = re.compile(r"-h[0-9a-f]{16}\Z")


def change_topic(source: str, schema: str, table: str) -> str:
    """Topic of a table's changes; for MongoDB the schema is the database.

    A name past Kafka's limit keeps its start and ends in `-h` and a hash of the whole.
    """
    name = ".".join((encode_segment(source), encode_segment(schema), encode_segment(table)))
    if len(name) + len(_READS_SUFFIX) <= MAX_TOPIC_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[:_KEPT_LENGTH]}-h{digest}"


def reads_topic(source: str, schema: str, table: str) -> str:
    """Topic of the reads of a table."""
    return change_topic(source, schema, table) + _READS_SUFFIX


def is_reads_topic(name: str) -> bool:
    """Whether a topic is one of reads, and not one of the changes of a table named `reads`."""
    if not name.endswith(_READS_SUFFIX):
        return False
    changes = name.removesuffix(_READS_SUFFIX)
    return changes.count(".") > 1 or _SHORTENED.search(changes) is not None


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of our own topics under one prefix."""

    prefix: str = "rowcast"

    @property
    def events(self) -> str:
        """Custom and system events."""
        return f"{self.prefix}.events"

    @property
    def api(self) -> str:
        """API calls."""
        return f"{self.prefix}.api"

    @property
    def schema(self) -> str:
        """DDL."""
        return f"{self.prefix}.schema"

    @property
    def progress(self) -> str:
        """Where each capture stands; compacted, one partition."""
        return f"{self.prefix}.progress"

    @property
    def snapshots(self) -> str:
        """What is to be loaded of each source and how far it is; compacted, one partition."""
        return f"{self.prefix}.snapshots"

    @property
    def definitions(self) -> str:
        """Listeners and the like; compacted, one partition."""
        return f"{self.prefix}.definitions"

    @property
    def runs(self) -> str:
        """What every listener run did."""
        return f"{self.prefix}.runs"

    @property
    def dead(self) -> str:
        """Runs given up, with everything needed to replay them."""
        return f"{self.prefix}.dead"

    @property
    def retry(self) -> str:
        """Events that one listener is given again."""
        return f"{self.prefix}.retry"

    @property
    def push(self) -> str:
        """Messages that listeners send to WebSocket channels."""
        return f"{self.prefix}.push"

    @property
    def schedules(self) -> str:
        """Events to be emitted later; compacted, one partition, so that one scheduler has all."""
        return f"{self.prefix}.schedules"

    @property
    def kv(self) -> str:
        """Listeners' small state; compacted, one partition."""
        return f"{self.prefix}.kv"

    @property
    def compacted(self) -> tuple[str, ...]:
        """Topics with one partition that keep the last record of each key."""
        return (self.progress, self.snapshots, self.definitions, self.schedules, self.kv)

    @property
    def partitioned(self) -> tuple[str, ...]:
        """Topics with as many partitions as the installation sets."""
        return (self.events, self.api, self.schema, self.runs, self.dead, self.retry, self.push)

    def routed_pattern(self, sources: tuple[str, ...]) -> str:
        """Regular expression of every topic that routers read: of events, and of replayed ones."""
        return self._pattern(sources, self.events, self.api, self.schema, self.retry)

    def pushed_pattern(self, sources: tuple[str, ...]) -> str:
        """Regular expression of every topic whose records clients may register for."""
        return self._pattern(sources, self.events, self.api, self.push)

    def _pattern(self, sources: tuple[str, ...], *own: str) -> str:
        changes = [rf"{re.escape(encode_segment(source))}\..+" for source in sources]
        return f"^(?:{'|'.join([*map(re.escape, own), *changes])})$"
