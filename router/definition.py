"""What is asked to happen for which events, and how it stands on `rowcast.definitions`.

A definition names a pattern of event types, a filter and one action. Its `version` grows with
each change; `since_ms` stays: it sees events that happened from when it was first applied on, so
that neither history nor the events of a change's own moment are run by surprise or lost.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, TypeAlias

import msgspec

from events.errors import EventsError
from events.event_type import EventPattern, check_custom_type, schedule_type
from events.json_codec import encode
from events.kept_definition import KeptDefinition
from events.mail import Addresses
from events.recurrence import CatchUp, Recurrence, parse_period_ms
from router.errors import DefinitionError
from router.module import MAX_MODULES, check_module_name
from router.template import check_template, check_text
from router.where import compile_where

MAX_TIMEOUT_S = 900.0
MAX_ATTEMPTS = 1_000
KEPT_FIELDS = ("version", "since_ms")
"""Fields that no file may set."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a failed run is tried again: `attempts` more times, waiting longer each time."""

    attempts: int = 3
    backoff_s: float = 0.5
    factor: float = 2.0
    max_s: float = 60.0


class ListenerCode(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="code"
):
    """Run Python in the sandbox."""

    code: str


class Webhook(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="webhook"
):
    """Send the event to a URL."""

    url: str
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    headers: dict[str, str] = {}


class Emit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="emit"):
    """Emit another event, its data and key made from a template (router.template)."""

    type: str
    data: Any = None
    key: str | None = None


class Email(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="email"):
    """Send a mail; each text is a template (router.template.fill_text)."""

    to: Addresses
    subject: str
    text: str = ""
    html: str = ""
    cc: Addresses = ()
    bcc: Addresses = ()
    reply_to: Addresses = ()

    @property
    def templates(self) -> tuple[str, ...]:
        """All its texts."""
        lists = (self.to, self.cc, self.bcc, self.reply_to)
        addresses = [(one,) if isinstance(one, str) else one for one in lists]
        return (self.subject, self.text, self.html, *(text for one in addresses for text in one))


Action: TypeAlias = ListenerCode | Webhook | Emit | Email


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One listener; see docs/triggers.md for each field."""

    name: str
    on: str
    action: Action
    where: dict[str, Any] | None = None
    retry: Retry = Retry()
    ordering: Literal["key", "none"] = "key"
    timeout_s: float = 10.0
    cpu_s: float = 5.0
    memory_mb: int = 256
    tenant: str = "default"
    enabled: bool = True
    recursion: int = 0
    reuse: bool = False
    modules: tuple[str, ...] = ()
    schedule: str | None = None
    every: str | None = None
    time_zone: str = "UTC"
    catch_up: CatchUp = "last"
    version: int = 0
    since_ms: int = 0

    @property
    def recurrence(self) -> Recurrence | None:
        """When it runs by the clock; None where it does not. Raises RecurrenceError."""
        if self.schedule is None and self.every is None:
            return None
        every_ms = None if self.every is None else parse_period_ms(self.every)
        return Recurrence(every_ms, self.schedule, self.time_zone, self.catch_up).check()

    @property
    def kind(self) -> str:
        """What stands in the record's key."""
        return "listener"

    @property
    def uses(self) -> tuple[str, ...]:
        """The modules that its code imports."""
        return self.modules

    @property
    def summary(self) -> str:
        """For a list of definitions."""
        recurrence = self.recurrence
        return f"on {self.on}" if recurrence is None else f"on {self.on}  {recurrence}"

    def succeeding(self, before: KeptDefinition | None, now_ms: int) -> Definition:
        """What is to stand on Kafka after `before`; `before` itself where nothing is changed."""
        if not isinstance(before, Definition):
            return msgspec.structs.replace(self, version=1, since_ms=now_ms)
        same = msgspec.structs.replace(self, version=before.version, since_ms=before.since_ms)
        if same == before:
            return before
        return msgspec.structs.replace(same, version=before.version + 1)

    def encode(self) -> bytes:
        """The record's value."""
        return encode(msgspec.to_builtins(self))


def decode_definition(value: bytes) -> Definition:
    """From a record's value; raises DefinitionError where it is none."""
    try:
        return check_definition(msgspec.json.decode(value, type=Definition))
    except (msgspec.DecodeError, RecursionError) as error:
        raise DefinitionError(f"not a definition: {error}") from error


def convert_definition(table: dict[str, object], place: str) -> Definition:
    """From a table of a file; raises DefinitionError that names the place and the mend."""
    for key in KEPT_FIELDS:
        if key in table:
            raise DefinitionError(f"{place}: found {key!r}, which Rowcast keeps itself; remove it")
    if "schedule" in table or "every" in table:
        _run_by_the_clock(table, place)
    try:
        return check_definition(msgspec.convert(table, Definition))
    except msgspec.ValidationError as error:
        raise DefinitionError(f"{place}: {explain(str(error))}") from error
    except DefinitionError as error:
        raise DefinitionError(f"{place}: {error}") from error


def _run_by_the_clock(table: dict[str, object], place: str) -> None:
    found = [key for key in ("on", "schedule", "every") if key in table]
    if len(found) > 1:
        raise DefinitionError(
            f"{place}: found {' and '.join(f'`{key}`' for key in found)}, expected one of them: "
            "`on` for events, `schedule` (a cron expression) or `every` (a period) for the clock"
        )
    name = table.get("name")
    if isinstance(name, str) and name:
        table["on"] = schedule_type(name)


def check_definition(definition: Definition) -> Definition:
    """The definition itself where every field means something."""
    if not _NAME.fullmatch(definition.name):
        raise DefinitionError(
            f"found the name {definition.name!r}, expected letters, digits, '_', '-' and '.', "
            "128 at most, a letter or digit first"
        )
    try:
        EventPattern.parse(definition.on)
        if isinstance(definition.action, Emit):
            check_custom_type(definition.action.type)
        _check_clock(definition)
    except EventsError as error:
        raise DefinitionError(str(error)) from error
    if definition.where is not None:
        compile_where(definition.where)
    _check_action(definition.action)
    for module in definition.modules:
        check_module_name(module)
    if len(set(definition.modules)) < len(definition.modules):
        raise DefinitionError(f"found modules = {list(definition.modules)}, one of them twice")
    if definition.modules and not isinstance(definition.action, ListenerCode):
        raise DefinitionError("found `modules` in a trigger, which has no code to use them")
    _check_range("modules: how many", len(definition.modules), 0, MAX_MODULES)
    _check_range("timeout_s", definition.timeout_s, 0.001, MAX_TIMEOUT_S)
    _check_range("cpu_s", definition.cpu_s, 0.01, MAX_TIMEOUT_S)
    _check_range("memory_mb", definition.memory_mb, 32, 4_096)
    _check_range("retry.attempts", definition.retry.attempts, 0, MAX_ATTEMPTS)
    _check_range("retry.backoff_s", definition.retry.backoff_s, 0, 86_400)
    _check_range("retry.factor", definition.retry.factor, 1, 100)
    _check_range("retry.max_s", definition.retry.max_s, 0, 86_400)
    _check_range("recursion", definition.recursion, 0, 1_000)
    return definition


def _check_action(action: Action) -> None:
    match action:
        case Emit(data=data, key=key):
            check_template(data)
            check_template(key)
        case Email():
            _check_email(action)
        case Webhook(url=url) if not url.startswith(("http://", "https://")):
            raise DefinitionError(f"found the url {url!r}, expected http:// or https://")
        case _:
            pass


def _check_email(email: Email) -> None:
    for text in email.templates:
        check_text(text)
    if not email.to:
        raise DefinitionError('found no `to`, expected an address such as "${after.email}"')
    if not email.text and not email.html:
        raise DefinitionError("found neither `text` nor `html` in [email], expected one of them")


def _check_clock(definition: Definition) -> None:
    """Raises RecurrenceError for what recurs at no time."""
    if definition.recurrence is not None:
        own = schedule_type(definition.name)
        if definition.on != own:
            raise DefinitionError(
                f"found on = {definition.on!r} in a definition that runs by the clock, expected "
                f"{own!r}"
            )
    elif definition.time_zone != "UTC" or definition.catch_up != "last":
        raise DefinitionError(
            "found `time_zone` or `catch_up`, expected a `schedule` or `every` that they are for"
        )


def explain(message: str) -> str:
    """A validation error in the user's terms: what was found, what was expected."""
    match = _UNKNOWN.search(message)
    if match is None:
        return message
    structs: dict[str, type[msgspec.Struct]] = {"retry": Retry}
    known = [
        field
        for field in structs.get(match["path"] or "", Definition).__struct_fields__
        if field not in ("action", *KEPT_FIELDS)
    ]
    near = difflib.get_close_matches(match["field"], known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"found the unknown key {match['field']!r}, expected {', '.join(known)}{hint}"


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise DefinitionError(f"found {name} = {value}, expected {low:g} to {high:g}")
