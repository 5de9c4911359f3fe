"""The part of jsonschema that Rowcast uses; its own types leave most of it open."""

from collections.abc import Iterator

from referencing import Registry

from .exceptions import ValidationError

class FormatChecker: ...

class Draft202012Validator:
    FORMAT_CHECKER: FormatChecker
    def __init__(
        self,
        schema: object,
        *,
        registry: Registry[object] = ...,
        format_checker: FormatChecker | None = ...,
    ) -> None: ...
    @classmethod
    def check_schema(cls, schema: object) -> None: ...
    def iter_errors(self, instance: object) -> Iterator[ValidationError]: ...
