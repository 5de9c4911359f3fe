from collections.abc import Iterator

class ValidationError(Exception):
    message: str
    json_path: str

class SchemaError(Exception):
    message: str
    json_path: str

def best_match(errors: Iterator[ValidationError]) -> ValidationError | None: ...
