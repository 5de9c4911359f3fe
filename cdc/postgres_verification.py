"""`rowcast verify`: every row of a source's tables against what their topics say.

Each table is read in one snapshot of the database; then capture's progress is awaited until it has
passed all that those snapshots saw; then the topics are folded up to there. So it is exact while
writes go on, and needs a capture that runs. Memory does not grow with the tables: both sides are
kept in temporary files (`verification_store`).
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import psycopg
from aiokafka.errors import KafkaConnectionError, KafkaError

from cdc.capture_wait import CaptureWait
from cdc.errors import CaptureConfigError, PublishError, SourceLostError
from cdc.oversized_record import LetterData, decode_letter
from cdc.postgres_catalogue import PostgresCatalogue
from cdc.postgres_publication import published_tables, publishes_all_tables
from cdc.postgres_source import Connection, PostgresSource, connect
from cdc.postgres_table_reading import SESSION, ReadTable, read_table
from cdc.schema_log import Look, told_history
from cdc.snapshot_state import SnapshotStates, TableSnapshot
from cdc.topic_catalogue import TopicDescription, described_topics, source_topics
from cdc.topic_creation import unreachable
from cdc.topic_fold import TopicFold, TransactionTally
from cdc.topic_reading import TopicExtent, committed_records, read_to_end, topic_extent
from cdc.topic_record import Position
from cdc.verification import Difference, RowComparison, TableShapes, TableVerification, Verification
from cdc.verification_store import VerificationStore
from events.cluster import Cluster
from events.lsn import Lsn

# Documents nest as deep as orjson reads them; the reader of records counts Python's own limit.
_RECURSION_LIMIT = 4_000

Name = tuple[str, str]


@dataclass(frozen=True, slots=True)
class VerifyLimits:
    """How long to wait for capture in all, and how many differences of a table to keep."""

    timeout_s: float = 60.0
    shown: int = 20


async def verify_postgres(
    source: PostgresSource,
    cluster: Cluster,
    tables: Sequence[str] = (),
    limits: VerifyLimits | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Compare tables, named `schema.table` or (in `public`) by their name; all where none is.

    Raises CaptureConfigError where that cannot be done, PublishError and SourceLostError where
    Kafka or PostgreSQL fails meanwhile.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
    source = source.at_primary
    limits = limits or VerifyLimits()
    try:
        connection = await connect(source)
        try:
            await connection.execute(SESSION)
            with tempfile.TemporaryDirectory(prefix="rowcast-verify-") as folder:
                work = _Work(source, cluster, connection, limits, Path(folder), say)
                return await work.verify(tables)
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise SourceLostError(
            f"PostgreSQL failed a request of the verification of {source.name}: "
            f"{str(error).strip()}"
        ) from error
    except KafkaConnectionError as error:
        raise unreachable(cluster, error) from error
    except KafkaError as error:
        raise PublishError(f"Kafka failed a request of the verification: {error!r}") from error


class _Work:
    """One verification."""

    def __init__(
        self,
        source: PostgresSource,
        cluster: Cluster,
        connection: Connection,
        limits: VerifyLimits,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._cluster = cluster
        self._connection = connection
        self._limits = limits
        self._folder = folder
        self._say = say
        self._states = SnapshotStates(source.name)
        self._topics: dict[str, TopicDescription] = {}
        self._looks: dict[int, list[Look]] = {}
        self._others: dict[str, TopicDescription] = {}
        self._letters: list[LetterData] = []
        self._all_tables = False

    async def verify(self, tables: Sequence[str]) -> Verification:
        await self._check_primary()
        published = await published_tables(self._connection, self._source)
        if not published:
            raise CaptureConfigError(
                found=f"no table in the publication {self._source.publication}",
                expected="tables that are captured",
                mend="start capture (`rowcast up`), or look whether it runs (`rowcast status`)",
            )
        chosen = self._chosen(published, tables)
        wait = CaptureWait(self._source.name, self._cluster, self._limits.timeout_s, self._say)
        self._states = await wait.until_loaded(chosen)
        with ExitStack() as stack:
            stores: list[VerificationStore] = []
            read: list[ReadTable] = []
            database = self._connection.info.dbname
            catalogue = PostgresCatalogue(self._connection, self._source.name, database)
            for number, name in enumerate(chosen):
                self._say(f"reading {'.'.join(name)}")
                store = VerificationStore(self._folder / f"{number}.sqlite")
                stack.callback(store.close)
                stores.append(store)
                read.append(
                    await read_table(self._source, self._connection, catalogue, name, store)
                )
                store.settle()
            position = max((one.moment.after for one in read), default=Lsn(0))
            progress = await wait.until_passed(position)
            self._topics = await source_topics(self._cluster, self._source.name)
            self._all_tables = await publishes_all_tables(self._connection, self._source)
            await self._read_own_topics()
            found = Verification(self._source.name, str(position))
            tally_store = VerificationStore(self._folder / "transactions.sqlite")
            stack.callback(tally_store.close)
            tally = TransactionTally(tally_store, self._source.name, progress.end)
            for one, store in zip(read, stores, strict=True):
                self._say(f"reading the topic {one.encoder.topic}")
                found.tables.append(await self._compare(one, store, tally))
                store.close()
            if not tables:
                await self._find_torn(
                    found, tally, tally_store, {one.encoder.topic for one in read}
                )
            return found

    async def _check_primary(self) -> None:
        cursor = await self._connection.execute("select pg_catalog.pg_is_in_recovery()")
        if await cursor.fetchone() == (True,):
            raise CaptureConfigError(
                found="a standby, which does not tell which transactions are visible on it",
                expected="the primary",
                mend=f"set primary_dsn in {self._source.setting} to the primary's address",
            )

    def _chosen(self, published: Sequence[Name], tables: Sequence[str]) -> list[Name]:
        if not tables:
            return list(published)
        chosen: list[Name] = []
        for table in tables:
            found = next((name for name in published if table in _names_of(name)), None)
            if found is None:
                known = ", ".join(map(".".join, published[:8])) or "none"
                raise CaptureConfigError(
                    found=f"the table {table!r}, which is not in the publication "
                    f"{self._source.publication}",
                    expected=f"one of {known}{', ...' if len(published) > 8 else ''}",
                    mend="correct the name",
                )
            if found not in chosen:
                chosen.append(found)
        return chosen

    async def _read_own_topics(self) -> None:
        """How tables looked, and which changes were too large for their topics."""
        topics = self._cluster.topics
        schema, dead, events = topics.schema, topics.dead, topics.events
        described = await described_topics(self._cluster, {schema, dead, events}.__contains__)
        if events in described:
            # What rowcast.emit writes has its ordinal too.
            self._others[events] = described[events]
        if schema in described:
            count = described[schema].partitions
            records = await read_to_end(self._cluster, schema, count)
            values = [record.value for record in records if record.value is not None]
            self._looks = told_history(self._source.name, values)
        if dead in described:
            extent = await topic_extent(self._cluster, dead, described[dead].partitions)
            async with aclosing(committed_records(self._cluster, dead, extent)) as batches:
                async for batch in batches:
                    letters = [decode_letter(record.value or b"") for record in batch]
                    self._letters += [
                        letter
                        for letter in letters
                        if letter is not None and letter.source == self._source.name
                    ]

    async def _compare(
        self, read: ReadTable, store: VerificationStore, tally: TransactionTally
    ) -> TableVerification:
        relation, encoder = read.table.relation, read.encoder
        found = TableVerification(relation.schema, relation.name, encoder.topic)
        found.rows = store.row_count
        state = self._states.tables.get((relation.schema, relation.name))
        looks = self._looks.get(relation.oid, [])
        shapes = TableShapes([(look.position, look.look) for look in looks], encoder.look)
        description = self._topics.get(encoder.topic)
        whole = self._is_whole(found, state)
        if description is None:
            found.statements.append("there is no topic: capture has not seen the table yet")
            found.untold = found.rows
            return found
        extent = await topic_extent(self._cluster, encoder.topic, description.partitions)
        whole &= self._is_kept(found, description, extent)
        if shapes.key_changed_at is not None:
            whole = False
            found.statements.append(
                "the record key was another one before "
                f"{Lsn(shapes.key_changed_at[0])}: rows told before are not looked for"
            )
        lettered = self._lettered(read)
        if lettered:
            whole &= encoder.is_keyed
            found.statements.append(
                f"{sum(map(len, lettered.values()))} changes of it were larger than Kafka takes "
                f"and are told of on {self._cluster.topics.dead} alone: rows and values that only "
                "they told are no differences"
            )
        if not encoder.is_keyed and shapes.changed_at is not None:
            found.statements.append(
                "it has no key and its columns have changed: rows told before and after "
                "cannot be compared; give it a primary key"
            )

        def on_problem(kind: str, detail: str) -> None:
            unreadable = Difference("unreadable", detail=detail)
            repeated = Difference("repeated", detail=detail)
            found.add(unreadable if kind == "unreadable" else repeated, self._limits.shown)

        loaded = state is not None and state.is_begun
        fold = TopicFold(
            store,
            read.moment,
            on_problem,
            keyed=encoder.is_keyed,
            loaded=loaded,
            lettered=lettered,
        )
        async with aclosing(committed_records(self._cluster, encoder.topic, extent)) as batches:
            async for batch in batches:
                for record in batch:
                    fold.take(record.partition, record.offset, record.key, record.value)
                    tally.take(record.value)
        fold.finish()
        found.records = fold.record_count
        comparison = RowComparison(
            found, shapes, self._limits.shown, lettered, keyed=encoder.is_keyed, whole=whole
        )
        for compared in store.compared():
            comparison.judge(compared)
        return found

    def _lettered(self, read: ReadTable) -> dict[bytes, list[Position]]:
        """Where changes stand that the table's topic could not take, by key."""
        found: defaultdict[bytes, list[Position]] = defaultdict(list)
        for letter in self._letters:
            visible = letter.txId is None or read.moment.sees(letter.txId, letter.lsn)
            if letter.topic == read.encoder.topic and visible:
                found[bytes(letter.key)].append(letter.position)
        return dict(found)

    def _is_whole(self, found: TableVerification, state: TableSnapshot | None) -> bool:
        """Whether every row of the table must be on its topic."""
        plan = self._states.plan
        if plan is not None and plan.planned:
            if state is None and self._all_tables:
                return True
            if state is not None and state.state == "finished":
                return True
        elif state is not None and state.state == "finished" and not state.where:
            return True
        if state is not None and state.state == "failed":
            why = f"it was not loaded: {state.error}"
        else:
            why = (
                "rows that were there before capture began were not loaded (snapshot = "
                f'"{self._source.snapshot}")'
            )
        found.statements.append(
            f"{why}; rows that its topic does not have are no differences. To load it: rowcast "
            f"snapshot {self._source.name} {found.schema}.{found.table}"
        )
        return False

    def _is_kept(
        self, found: TableVerification, description: TopicDescription, extent: TopicExtent
    ) -> bool:
        if description.is_compacted:
            found.statements.append(
                "its topic is compacted: events that compaction took out are not looked at"
            )
            return True
        if not any(extent.starts.values()):
            return True
        found.statements.append(
            "Kafka has deleted the beginning of its topic (retention): rows that it no longer "
            "has are no differences"
        )
        return False

    async def _find_torn(
        self,
        found: Verification,
        tally: TransactionTally,
        store: VerificationStore,
        counted: set[str],
    ) -> None:
        """Look for transactions that lack a change, where all topics hold all that was written."""
        self._say("looking for transactions that lack a change")
        why = self._missing_topic() or await self._count_others(tally, counted)
        if why is not None:
            found.statements.append(f"transactions that lack a change are not looked for: {why}")
            return
        for letter in filter(lambda letter: letter.total_order is not None, self._letters):
            tally.count(*letter.position)
        tally.flush()
        found.transactions = store.transaction_count
        for torn in store.torn_transactions():
            found.torn.append(
                f"the transaction committed at {Lsn(torn.lsn)}: {torn.changes} changes are on "
                f"Kafka, the last of them is number {torn.last}"
            )

    async def _count_others(self, tally: TransactionTally, counted: set[str]) -> str | None:
        """Count the changes on topics that were not compared; why that cannot be done, if so."""
        for name, description in (self._topics | self._others).items():
            extent = await topic_extent(self._cluster, name, description.partitions)
            if description.is_compacted or any(extent.starts.values()):
                return f"the topic {name} no longer holds all that was written to it"
            if name in counted:
                continue
            async with aclosing(committed_records(self._cluster, name, extent)) as batches:
                async for batch in batches:
                    for record in batch:
                        tally.take(record.value)
        return None

    def _missing_topic(self) -> str | None:
        told = {look.topic(self._source.name) for looks in self._looks.values() for look in looks}
        gone = sorted(told - self._topics.keys())
        return f"the topic {gone[0]} is gone" if gone else None


def _names_of(name: Name) -> tuple[str, ...]:
    whole = ".".join(name)
    return (whole, name[1]) if name[0] == "public" else (whole,)
