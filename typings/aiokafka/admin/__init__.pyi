from collections.abc import Mapping, Sequence
from typing import TypedDict

from aiokafka.admin.config_resource import ConfigResource as ConfigResource
from aiokafka.admin.new_topic import NewTopic as NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete as RecordsToDelete
from aiokafka.structs import OffsetAndMetadata, TopicPartition

class PartitionDescription(TypedDict):
    error_code: int
    partition: int
    leader: int

class TopicDescription(TypedDict):
    error_code: int
    topic: str
    is_internal: bool
    partitions: list[PartitionDescription]

class CreateTopicsResponse:
    topic_errors: list[tuple[str, int, str | None]]

class AIOKafkaAdminClient:
    def __init__(
        self,
        *,
        bootstrap_servers: str | Sequence[str] = ...,
        client_id: str = ...,
        request_timeout_ms: int = ...,
    ) -> None: ...
    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def create_topics(
        self,
        new_topics: Sequence[NewTopic],
        timeout_ms: int | None = ...,
        validate_only: bool = ...,
    ) -> CreateTopicsResponse: ...
    async def delete_topics(self, topics: Sequence[str], timeout_ms: int | None = ...) -> object: ...
    async def list_topics(self) -> list[str]: ...
    async def describe_topics(self, topics: Sequence[str] | None = ...) -> list[TopicDescription]: ...
    async def describe_configs(
        self, config_resources: Sequence[ConfigResource], include_synonyms: bool = ...
    ) -> list[object]: ...
    async def alter_configs(self, config_resources: Sequence[ConfigResource]) -> list[object]: ...
    async def delete_records(
        self, records: Mapping[TopicPartition, RecordsToDelete], timeout_ms: int | None = ...
    ) -> dict[TopicPartition, int]: ...
    async def list_consumer_group_offsets(
        self,
        group_id: str,
        group_coordinator_id: int | None = ...,
        partitions: Sequence[TopicPartition] | None = ...,
    ) -> dict[TopicPartition, OffsetAndMetadata]: ...
