"""How an event came to be: the event at the root and the listeners on the way to this one.

Travels in the header `rowcast-chain`, never in the value: a record's value is the same whoever
caused it. A listener that stands in the path is not run again for that event, which is what
stops loops without limiting depth (docs/design.md, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

from events.errors import EventFormatError
from events.json_codec import decode_object, encode

CHAIN_HEADER = "rowcast-chain"
TRACEPARENT_HEADER = "traceparent"


@dataclass(frozen=True, slots=True)
class Chain:
    """The id of the root event and the names of the listeners since, oldest first."""

    root: str
    path: tuple[str, ...] = ()

    def extended(self, listener: str) -> Chain:
        """The chain of what this listener causes."""
        return Chain(self.root, (*self.path, listener))

    def visits(self, listener: str) -> int:
        """How often a listener stands in the path."""
        return self.path.count(listener)

    def encode(self) -> bytes:
        """The header's value."""
        return encode({"root": self.root, "path": list(self.path)})

    @classmethod
    def decode(cls, header: bytes) -> Chain:
        """From the header's value.

        Raises EventFormatError where it is none.
        """
        try:
            value = decode_object(header)
        except ValueError as error:
            raise EventFormatError(f"the header {CHAIN_HEADER} is not JSON: {error}") from error
        root, path = value.get("root"), value.get("path")
        if not isinstance(root, str) or not isinstance(path, list):
            raise EventFormatError(
                f"the header {CHAIN_HEADER} holds {header[:200]!r}, "
                'expected {"root": "<event id>", "path": ["<listener>", ...]}'
            )
        names: list[str] = []
        for name in path:
            if not isinstance(name, str):
                raise EventFormatError(
                    f"the header {CHAIN_HEADER} has {name!r} in its path, expected names"
                )
            names.append(name)
        return cls(root, tuple(names))
