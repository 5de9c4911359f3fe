"""Dead letters as they are now: open, replayed or dropped.

`rowcast.dead` is a log: a letter, and after it, under the same key, what was done with it. A run
that is replayed and given up again leaves a letter of the same id, which is open again: what was
done with a letter names the time it died, and says nothing of one that died since.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, cast

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from events.chain import Chain
from events.event import Event, decode_event
from events.json_codec import JsonObject, decode_object, encode
from router.replay import replay_record
from rowcast.errors import ConfigurationError, NotFoundError
from rowcast.installation import Installation
from rowcast.kafka_access import Record, read_at, read_topic, write_records

State: TypeAlias = Literal["open", "replayed", "dropped"]
_MARK: Final = "dead_letter"
_DIED: Final = "dead_ms"


class _Parts(msgspec.Struct, frozen=True):
    """Numbers of an event keep their digits only where it is not read."""

    event: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What stands on the topic, its key there, the event's own bytes, and what was done with it."""

    id: str
    key: bytes
    body: JsonObject
    event: bytes
    state: State = "open"

    @property
    def listener(self) -> str | None:
        """Whose run it was; None for a change that Kafka did not take."""
        listener = self.body.get("listener")
        return listener if isinstance(listener, str) else None


async def read_dead_letters(installation: Installation) -> dict[str, DeadLetter]:
    """All that Kafka still has, by id, the newest last."""
    return folded(await read_topic(installation.cluster, installation.cluster.topics.dead))


def folded(records: Iterable[ConsumerRecord]) -> dict[str, DeadLetter]:
    """What the records of `rowcast.dead` come to, by id, the newest last."""
    letters: dict[str, DeadLetter] = {}
    for record in records:
        _take(letters, record)
    return letters


def _take(letters: dict[str, DeadLetter], record: ConsumerRecord) -> None:
    if record.value is None:
        return
    body = decode_object(record.value)
    marked, state = body.get(_MARK), body.get("state")
    if isinstance(marked, str):
        letter = letters.get(marked)
        is_newer = letter is not None and body.get(_DIED) not in (None, letter.body.get(_DIED))
        if letter is not None and not is_newer and state in ("replayed", "dropped"):
            letters[marked] = replace(letter, state=state)
        return
    found = body.get("id")
    if isinstance(found, str):
        letters.pop(found, None)
        event = bytes(msgspec.json.decode(record.value, type=_Parts).event)
        letters[found] = DeadLetter(found, record.key or b"", body, event)


def find(letters: dict[str, DeadLetter], letter_id: str) -> DeadLetter:
    """One by its id; raises NotFoundError."""
    letter = letters.get(letter_id)
    if letter is None:
        raise NotFoundError(
            f"found no dead letter {letter_id[:100]!r}, expected one of those that `rowcast dead` "
            "shows"
        )
    return letter


async def mark(
    installation: Installation, letters: list[DeadLetter], state: Literal["replayed", "dropped"]
) -> None:
    """Say what was done with letters."""
    topic, now_ms = installation.cluster.topics.dead, time.time_ns() // 1_000_000
    records = [Record(topic, letter.key, mark_of(letter, state, now_ms)) for letter in letters]
    await write_records(installation.cluster, records)


def mark_of(letter: DeadLetter, state: Literal["replayed", "dropped"], at_ms: int) -> bytes:
    """The record that says what was done with a letter."""
    died = letter.body.get(_DIED)
    return encode({_MARK: letter.id, _DIED: died, "state": state, "at_ms": at_ms})


async def drop(installation: Installation, letter_id: str) -> DeadLetter:
    """Take a letter off the list; raises NotFoundError."""
    letter = find(await read_dead_letters(installation), letter_id)
    await mark(installation, [letter], "dropped")
    return letter


async def replay_letters(
    installation: Installation, letters: list[DeadLetter], enabled: set[str]
) -> None:
    """Give letters' events to their listeners again, then say so.

    Raises ConfigurationError where one cannot be replayed, and replays none then. A crash between
    the two leaves a letter open that was replayed: a listener's effects are made once either way.
    """
    topic = installation.cluster.topics.retry
    records: list[Record] = []
    for letter in letters:
        if letter.listener is None:
            raise ConfigurationError(
                f"found the dead letter {letter.id!r} of a change that Kafka did not take, "
                "expected one of a listener's run; mend the row, or drop the letter"
            )
        if letter.listener not in enabled:
            raise ConfigurationError(
                f"found the dead letter {letter.id!r} of the listener {letter.listener!r}, "
                "expected a listener that is applied and enabled; apply it, then replay"
            )
        event = await _event(installation, letter)
        key = letter.body.get("key")
        own_key = key.encode() if isinstance(key, str) else None
        made = replay_record(topic, letter.listener, event, own_key)
        records.append(Record(made.topic, made.key, made.value, made.headers))
    await write_records(installation.cluster, records)
    await mark(installation, letters, "replayed")


async def _event(installation: Installation, letter: DeadLetter) -> Event:
    """The event, with its chain; from where it stands, where the letter was too small for it."""
    body = letter.body
    event = cast("JsonObject", body["event"])
    raw = letter.event
    if set(event) == {"id", "type"}:
        place = TopicPartition(str(body["topic"]), cast("int", body["partition"]))
        offset = cast("int", body["offset"])
        record = await read_at(installation.cluster, place, offset)
        if record is None or record.value is None:
            raise ConfigurationError(
                f"the event of the dead letter {letter.id!r} stood at {place.topic}"
                f"[{place.partition}]@{offset} and is no longer on Kafka; expected retention "
                "that keeps it until it is replayed. Drop the letter"
            )
        raw = record.value
    chain = cast("JsonObject", body.get("chain") or {})
    trace = body.get("traceparent")
    found = decode_event(raw)
    root, path = chain.get("root"), chain.get("path")
    own = None
    if isinstance(root, str) and isinstance(path, list) and path:
        own = Chain(root, tuple(str(one) for one in path))
    traceparent = trace if isinstance(trace, str) else None
    return Event(found.id, found.type, found.body, found.raw, own, traceparent)
