"""Which bodies stand in the events of calls, and what is taken out of them first. Pure.

`bodies` says which; `redact` names what others must not read: `$.card.number` in a body of JSON or
a form, `headers.x-token`, `parameters.token`. What cannot be redacted by path is left out rather
than shown, and so is what is too large to be looked through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl

from api.json_path import REDACTED, JsonPath
from events.json_codec import JsonObject, JsonValue, decode, encode

Bodies: TypeAlias = Literal["none", "request", "response", "both"]

BODY_KB_MAX: Final = 128
"""Two of them and the keys of the rows fit into a record of Kafka's usual size."""

_READ_BYTES_MAX: Final = 1024 * 1024
_HEADER_CHARS_MAX: Final = 1_000
_HEADERS_MAX: Final = 100
_NEVER_SHOWN: Final = frozenset(
    (
        *("authorization", "proxy-authorization", "apikey", "cookie", "set-cookie"),
        *("x-api-key", "rowcast-chain"),
    )
)


@dataclass(frozen=True, slots=True)
class BodyPolicy:
    """`body_bytes` bounds each body as it stands in the event."""

    bodies: Bodies = "none"
    paths: tuple[JsonPath, ...] = ()
    hidden_headers: frozenset[str] = _NEVER_SHOWN
    hidden_parameters: frozenset[str] = frozenset()
    body_bytes: int = 16 * 1024
    each_row: bool = False
    """Whether paths count in each object of an array too, as for rows."""

    @classmethod
    def parse(
        cls, bodies: Bodies, redact: Sequence[str], body_kb: int = 16, *, each_row: bool = False
    ) -> BodyPolicy:
        """From settings; raises ValueError with what is wrong in `redact`."""
        headers, parameters = set[str](_NEVER_SHOWN), set[str]()
        paths: list[JsonPath] = []
        for entry in redact:
            kind, _, name = entry.partition(".")
            if entry.startswith("$"):
                paths.append(JsonPath.parse(entry))
            elif kind == "headers" and name:
                headers.add(name.lower())
            elif kind == "parameters" and name:
                parameters.add(name)
            else:
                raise ValueError(
                    f"found {entry[:80]!r} in redact, expected a path into the body "
                    "($.card.number), headers.NAME or parameters.NAME"
                )
        if not 1 <= body_kb <= BODY_KB_MAX:
            raise ValueError(f"found body_kb = {body_kb}, expected 1 to {BODY_KB_MAX}")
        return cls(
            bodies,
            tuple(paths),
            frozenset(headers),
            frozenset(parameters),
            body_kb * 1024,
            each_row,
        )

    @property
    def of_request(self) -> bool:
        """Whether what was asked stands in the event."""
        return self.bodies in ("request", "both")

    @property
    def of_response(self) -> bool:
        """Whether what was answered stands in the event."""
        return self.bodies in ("response", "both")

    def parameters(self, given: Mapping[str, str]) -> dict[str, str]:
        """The parameters of a call as its event has them."""
        return shown_parameters(given, self.hidden_parameters)

    def described(
        self, headers: Sequence[tuple[str, str]], body: bytes, content_type: str
    ) -> JsonObject:
        """Headers and body as they stand in an event.

        `body` is JSON where it was JSON or a form, else text; a string where it was `cut`; null
        with the reason in `left_out` where it cannot be shown. `bytes` is its full size.
        """
        shown: JsonObject = {}
        for name, value in headers[:_HEADERS_MAX]:
            key = name.lower()
            shown[key] = REDACTED if key in self.hidden_headers else value[:_HEADER_CHARS_MAX]
        found: JsonObject = {"headers": shown, "bytes": len(body), "cut": False}
        try:
            found |= self._body(body, content_type.partition(";")[0].strip().lower())
        except (ValueError, TypeError, RecursionError) as error:
            # A stranger's bytes: whatever they are, the call goes on and nothing is shown of them.
            found |= {"body": None, "left_out": f"not readable: {type(error).__name__}"}
        return found

    def _body(self, body: bytes, kind: str) -> JsonObject:
        if not body:
            return {"body": None}
        if len(body) > _READ_BYTES_MAX:
            return {"body": None, "cut": True, "left_out": f"larger than {_READ_BYTES_MAX} bytes"}
        if kind == "application/x-www-form-urlencoded":
            form = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=1_000)
            value: JsonValue = dict(form)
        elif kind in ("", "application/json") or kind.endswith("+json"):
            value = decode(body)
        elif self.paths:
            return {"body": None, "left_out": f"{kind[:80]} is not redacted by path"}
        else:
            return self._bounded(body.decode())
        self._redact(value)
        # As deep as it will stand in the event, which is written with a bound on depth.
        text = encode([[[[[[value]]]]]])[6:-6]
        if len(text) > self.body_bytes:
            return self._bounded(text.decode())
        return {"body": value}

    def _redact(self, value: JsonValue) -> None:
        for path in self.paths:
            path.redact(value)
            if self.each_row and isinstance(value, list):
                for row in value:
                    path.redact(row)

    def _bounded(self, text: str) -> JsonObject:
        data = text.encode()
        # Characters that JSON escapes grow in the event, up to six times.
        bound = self.body_bytes if len(encode(text)) <= 2 * len(data) else self.body_bytes // 6
        if len(data) <= bound:
            return {"body": text}
        return {"body": data[:bound].decode(errors="ignore"), "cut": True}


def shown_parameters(given: Mapping[str, str], hidden: frozenset[str]) -> dict[str, str]:
    """Parameters without the values of those that others must not read."""
    return {name: REDACTED if name in hidden else text for name, text in given.items()}


NO_BODIES: Final = BodyPolicy()
