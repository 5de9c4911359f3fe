"""One group of changes and its progress, in one Kafka transaction.

This is what makes capture exactly once under read_committed: records and progress record become
visible together or not at all. Starting fences an older capture of the same source first and
reads progress second, so that nothing can be written between the two. Two transactions overlap:
one is written while the one before it commits; the commits keep the groups' order. After any
failure the publisher is of no more use: the process ends, and the next goes on from Kafka's state.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time

from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from cdc import transaction_lane
from cdc.change_group import RECORD_OVERHEAD_BYTES, ChangeGroup, Record
from cdc.encoded_batch import encode_batches
from cdc.errors import FencedError, PublishError, RecordTooLargeError, SourceFormatError
from cdc.oversized_record import OversizedPolicy, OversizedRecord, split_oversized
from cdc.ownership import Owner, decode_owner, owner_key
from cdc.progress import progress_key
from cdc.reads_retention import hold_reads_retention
from cdc.topic_catalogue import record_limits
from cdc.topic_creation import MAX_RECORD_BYTES, ensure_own_topics, ensure_topics, unreachable
from cdc.topic_reading import read_to_end
from cdc.transaction_lane import BATCH_BYTES, Batches, TransactionLane
from events.cluster import Cluster

_log = logging.getLogger(__name__)

# Two transactions at once; more would wait for the order of commits.
_LANES = ("", ".2")
_START_TIMEOUT_S = 90.0
_CLOSE_TIMEOUT_S = 5.0
_OWNER_WAIT_S = 5.0
_OWNER_SHORT_WAIT_S = 1.0
_OWNER_LIMIT_S = 20.0
_OWNER_POLL_S = 0.1


class Publisher:
    """The transactional producers of one source, or of a `log` beside it with its own progress."""

    def __init__(
        self,
        cluster: Cluster,
        source: str,
        on_record_too_large: OversizedPolicy = "stop",
        *,
        log: str | None = None,
    ) -> None:
        self._cluster = cluster
        self._on_record_too_large = on_record_too_large
        self._limits: dict[str, int] = {}
        self._source = source
        self._key = progress_key(source, log)
        self._name = f"{source}.{log}" if log else source
        self._owner = Owner(secrets.token_hex(8), socket.gethostname(), os.getpid())
        self._lanes: list[TransactionLane] = []
        self._writing = asyncio.Lock()
        self._ends: list[asyncio.Future[None]] = []
        self._count = 0
        self._progress_partition = TopicPartition(cluster.topics.progress, 0)
        self._known: set[str] = {cluster.topics.progress}
        self._found: dict[bytes | None, bytes | None] = {}

    async def start(self) -> bytes | None:
        """Take over from an older capture of the source; the value of its last progress record.

        None where there is no such record. Raises CaptureConfigError where Kafka is not reached
        and PublishError where it refuses.
        """
        await ensure_own_topics(self._cluster)
        if self._name == self._source:
            await hold_reads_retention(self._cluster, self._source)
        self._lanes = [TransactionLane(self._cluster, self._name, name) for name in _LANES]
        try:
            # All of them before progress is read: none may still commit for the older capture.
            async with asyncio.timeout(_START_TIMEOUT_S):
                for lane in self._lanes:
                    await lane.start()
                await self._take_over()
                self._found = await self._last_values()
            return self._found.get(self._key)
        except TimeoutError as error:
            raise unreachable(self._cluster, error) from error
        except ProducerFenced as error:
            raise await self._failure(error) from error
        except KafkaConnectionError as error:
            raise unreachable(self._cluster, error) from error
        except KafkaError as error:
            raise PublishError(f"the producer could not start: {error!r}") from error

    def found(self, key: bytes) -> bytes | None:
        """The value of a key's last record on the progress topic, as it was at the start."""
        return self._found.get(key)

    async def told(self, topic: str) -> list[bytes]:
        """The values of a topic's committed records, for what an earlier capture told there."""
        count = await self._started()[0].partition_count(topic)
        records = await read_to_end(self._cluster, topic, count)
        return [record.value for record in records if record.value is not None]

    async def publish(self, group: ChangeGroup, progress: bytes) -> None:
        """Write a group and the progress after it; returns once they are committed.

        Two calls may run at once: groups are written and committed in the order of the calls,
        the second is written while the first commits. Raises FencedError, RecordTooLargeError or
        PublishError; the process should then end.
        """
        lanes = self._started()
        lane, before = lanes[self._count % len(lanes)], self._ends[-1:]
        last_of_lane = self._ends[: -len(lanes) + 1]
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A failure is told by the call that met it; the others need not look.
        end.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        self._count += 1
        self._ends = [*before, end]
        try:
            async with self._writing, asyncio.timeout(transaction_lane.TIMEOUT_S):
                await self._know_topics(group)
                batches = await self._batches(group, progress)
                for earlier in last_of_lane:
                    await earlier
                await lane.write(batches)
            # The progress of this group says that the one before it is there.
            for earlier in before:
                await earlier
            async with asyncio.timeout(transaction_lane.TIMEOUT_S):
                await lane.commit()
        except TimeoutError as error:
            raise PublishError(
                f"Kafka at {self._cluster.bootstrap} did not take a group of changes within "
                f"{transaction_lane.TIMEOUT_S:g} s; see whether its brokers answer"
            ) from error
        except MessageSizeTooLargeError as error:
            raise self._refused_as_too_large(group) from error
        except (KafkaError, IllegalOperation, AssertionError) as error:
            raise await self._failure(error) from error
        else:
            end.set_result(None)
        finally:
            if not end.done():
                end.set_exception(PublishError("a group before this one was not committed"))

    async def close(self) -> None:
        """Close the producers; a transaction that is open is left to the next start to abort."""
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            if not lane.is_started:
                continue
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await lane.close()
            except (KafkaError, TimeoutError) as error:
                _log.warning("closing a producer of %s: %r", self._source, error)

    def _started(self) -> list[TransactionLane]:
        if not self._lanes:
            raise PublishError("the publisher is not started or already closed")
        return self._lanes

    async def _know_topics(self, group: ChangeGroup) -> None:
        new = group.records.keys() - self._known
        if new:
            await ensure_topics(self._cluster, new)
            limits = await record_limits(self._cluster, new)
            self._limits |= {name: min(limit, MAX_RECORD_BYTES) for name, limit in limits.items()}
            self._known |= new

    async def _batches(self, group: ChangeGroup, progress: bytes) -> Batches:
        batches: Batches = {}
        letters: list[Record] = []
        for topic, records in group.records.items():
            letters += await self._encode(topic, records, batches)
            # Encoding a large group must not starve the source's feedback timer.
            await asyncio.sleep(0)
        if letters:
            topics = self._cluster.topics
            await self._encode(topics.dead, letters, batches)
            await self._encode(topics.events, letters, batches)
        last = self._progress_batch(self._key, progress)
        batches.setdefault(self._progress_partition, []).append(last)
        return batches

    async def _encode(self, topic: str, records: list[Record], batches: Batches) -> list[Record]:
        """Add a topic's records to the batches; what is to be told of those that do not fit.

        Raises RecordTooLargeError where there is one and the source does not go on then.
        """
        count = await self._lanes[0].partition_count(topic)
        limit = self._limits.get(topic, MAX_RECORD_BYTES)
        bytes_max, letters = min(BATCH_BYTES, limit), list[Record]()
        encoded = list(encode_batches(records, count, bytes_max))
        if any(batch.size() > limit for _, batch in encoded):
            fitting, oversized = split_oversized(topic, records, limit)
            letters = [self._letter(one) for one in oversized]
            encoded = list(encode_batches(fitting, count, bytes_max))
        for partition, batch in encoded:
            batches.setdefault(TopicPartition(topic, partition), []).append(batch)
        return letters

    def _letter(self, oversized: OversizedRecord) -> Record:
        error = oversized.error(f"[sources.{self._source}] of rowcast.toml")
        if self._on_record_too_large == "stop":
            raise error
        now_ms = int(time.time() * 1_000)
        try:
            event = oversized.letter(self._source, now_ms)
        except SourceFormatError:
            # A record of our own, which nothing may take the place of.
            raise error from None
        _log.error("%s: told of in the place of it: %s", self._source, error)
        return event.key, event.value, list(event.headers), now_ms

    async def _take_over(self) -> None:
        lane = self._started()[0]
        owner = self._progress_batch(owner_key(self._name), self._owner.encode())
        await lane.write({self._progress_partition: [owner]})
        await lane.commit()

    def _progress_batch(self, key: bytes, value: bytes) -> BatchBuilder:
        record: Record = (key, value, [], int(time.time() * 1_000))
        ((_, batch),) = encode_batches([record], 1, BATCH_BYTES)
        return batch

    async def _failure(self, error: Exception) -> PublishError:
        """What to raise for a failure of Kafka, which may be that another has taken over.

        A broker that is asked to end a transaction while it fences its producer may answer with
        any error, so the last owner is asked for after all of them.
        """
        fenced = isinstance(error, ProducerFenced)
        deadline = time.monotonic() + (_OWNER_WAIT_S if fenced else _OWNER_SHORT_WAIT_S)
        owner = None
        try:
            async with asyncio.timeout(_OWNER_LIMIT_S):
                while (owner := await self._other_owner()) is None and time.monotonic() < deadline:
                    # A newer one fences first and says so a moment later.
                    await asyncio.sleep(_OWNER_POLL_S)
        except (KafkaError, PublishError, OSError):
            owner = None
        if owner is not None:
            return FencedError(
                f"another capture of the source {self._source!r} has started on this cluster and "
                f"taken over, process {owner.pid} on {owner.host}; run one capture a source, or "
                "give one of the sources another name"
            )
        if fenced:
            return PublishError(
                f"Kafka ended a transaction of {self._source!r} that stayed open for too long"
            )
        if isinstance(error, (AssertionError, IllegalOperation)):
            # How aiokafka says that its producer failed fatally while no transaction was open.
            return PublishError("the producer had failed before this group")
        return PublishError(f"a group was not committed to Kafka: {error!r}")

    async def _last_values(self) -> dict[bytes | None, bytes | None]:
        """The value of each key's last record on the progress topic, None where it is gone."""
        records = await read_to_end(self._cluster, self._cluster.topics.progress, 1)
        return {record.key: record.value for record in records}

    async def _other_owner(self) -> Owner | None:
        value = (await self._last_values()).get(owner_key(self._name))
        owner = decode_owner(value) if value is not None else None
        return owner if owner != self._owner else None

    def _refused_as_too_large(self, group: ChangeGroup) -> RecordTooLargeError:
        largest = max(
            ((topic, record) for topic, records in group.records.items() for record in records),
            key=lambda item: _size_bytes(item[1]),
            default=None,
        )
        if largest is None:
            return RecordTooLargeError("Kafka refused the progress record as too large")
        topic, record = largest
        return RecordTooLargeError(
            f"Kafka refused a record as too large; the largest of the group has "
            f"{_size_bytes(record)} bytes, topic {topic}, key {record[0]!r}; raise "
            "max.message.bytes of the topic and message.max.bytes of the broker "
            f"(Rowcast writes up to {MAX_RECORD_BYTES})"
        )


def _size_bytes(record: Record) -> int:
    key, value, headers, _ = record
    size = RECORD_OVERHEAD_BYTES + len(value or b"") + len(key or b"")
    return size + sum(len(name) + len(content) for name, content in headers)
