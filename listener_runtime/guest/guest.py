"""`g`: all that a listener can ask of the world (docs/listeners.md).

Lives in the snapshot as the module `_guest`. Everything here is a message to the host, which
decides; emit, push and log need no answer, so they work in `def main` too and may be awaited.
"""

import asyncio
import base64
import importlib
import json
import re

import _runner
from _runner import HostError

_from_json = json.loads
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_SPAN_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SEGMENTS = re.compile(r"custom(?:\.[A-Za-z0-9_-]+)+")


class _Sent:
    """What emit and push return: already done, and awaitable all the same."""

    __slots__ = ()

    def __await__(self):
        return self
        yield


class Secret(str):
    """A secret's text; awaiting it gives it too."""

    __slots__ = ()

    def __await__(self):
        return self
        yield


_SENT = _Sent()


class G:
    """The second argument of `main`."""

    def __init__(self, options):
        self.listener = options["listener"]
        self.event_chain = {"root": options["root"], "path": list(options["path"])}
        self.attempt = options["attempt"]
        self.http = Http()
        self.log = Log()
        self.kv = State()
        self.cache = Cache()
        self.mail = Mail()
        self.modules = Modules()
        self.schedule = Schedule(self)
        self.secrets = Secrets(options["secrets"])

    def db(self, source):
        """The database of a source, by its name in rowcast.toml."""
        return Database(source)

    def api(self, name):
        """A third-party API, by the name of its definition."""
        return Api(name)

    def emit(self, type, data=None, *, key=None, delay=None):
        """Emit an event `custom.<name>`, once the run has ended well, or so much later."""
        when = {} if delay is None else {"delay_s": _seconds(delay)}
        return self._emit(type, data, key, when)

    def _emit(self, type, data, key, when):
        if not isinstance(type, str) or not _SEGMENTS.fullmatch(type):
            raise HostError(
                f"g.emit: found the event type {type!r}, expected custom.<name>, "
                "of letters, digits, _ and -, with dots between"
            )
        if key is not None and not isinstance(key, str):
            key = str(key)
        _runner.tell({"t": "emit", "type": type, "data": data, "key": key, **when}, "g.emit")
        return _SENT

    def push(self, channel, data=None):
        """Send a message to the WebSocket clients of a channel, once the run has ended well."""
        if not isinstance(channel, str) or not channel.strip("."):
            raise HostError(f"g.push: found the channel {channel!r}, expected a name")
        _runner.tell({"t": "push", "channel": channel, "data": data}, "g.push")
        return _SENT

    async def gather(self, *calls):
        """Await several calls at once; returns their results in order."""
        return await asyncio.gather(*calls)


class Schedule:
    """Events that are emitted later; each once, whatever ends and starts again meanwhile."""

    __slots__ = ("_g",)

    def __init__(self, g):
        self._g = g

    def at(self, when, type, data=None, *, key=None, name=None):
        """Emit at a time: a datetime, ISO 8601 text, or seconds since 1970."""
        return self._g._emit(type, data, key, {"due_ms": _epoch_ms(when), **_named(name)})

    def after(self, delay, type, data=None, *, key=None, name=None):
        """Emit after a time: seconds, or text such as "5m" and "1h30m"."""
        return self._g._emit(type, data, key, {"delay_s": _seconds(delay), **_named(name)})

    def every(self, period, name, data=None, *, key=None, catch_up="last"):
        """Emit `schedule.<name>` again and again: each so many seconds, or text such as "5m"."""
        return self._recur(name, data, key, {"every_ms": round(_seconds(period) * 1_000)}, catch_up)

    def cron(self, expression, name, data=None, *, key=None, time_zone="UTC", catch_up="last"):
        """Emit `schedule.<name>` when a cron expression is due: minute, hour, day, month, weekday."""
        when = {"cron": str(expression), "time_zone": str(time_zone)}
        return self._recur(name, data, key, when, catch_up)

    def _recur(self, name, data, key, recurrence, catch_up):
        if name is None or catch_up not in ("last", "all", "none"):
            raise HostError(
                f"g.schedule: found name = {name!r} and catch_up = {catch_up!r}, expected a text, "
                "and \"last\", \"all\" or \"none\""
            )
        message = {"t": "emit", "type": "schedule", "data": data, **_named(name)}
        message["key"] = None if key is None else str(key)
        message["recurrence"] = {**recurrence, "catch_up": catch_up}
        _runner.tell(message, "g.schedule")
        return _SENT

    def cancel(self, name):
        """Emit no more what waits under a name; nothing happens where nothing does."""
        _runner.tell({"t": "cancel", **_named(str(name))}, "g.schedule.cancel")
        return _SENT


def _named(name):
    if name is None:
        return {}
    if not isinstance(name, str) or not name.strip():
        raise HostError(f"g.schedule: found the name {name!r}, expected a text")
    return {"name": name}


def _seconds(delay):
    """Seconds of a number, of text such as "90s" and "1h30m", or of a timedelta."""
    if isinstance(delay, str) and _SPAN.fullmatch(delay):
        return sum(float(count) * _UNITS_S[unit] for count, unit in _SPAN_PART.findall(delay))
    if hasattr(delay, "total_seconds"):
        delay = delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, (int, float)):
        raise HostError(
            f'found the delay {delay!r}, expected seconds or text such as "5m" and "1h30m" '
            "(ms, s, m, h, d)"
        )
    return float(delay)


def _epoch_ms(when):
    """Milliseconds since 1970; a time without a zone is UTC."""
    import datetime

    if isinstance(when, str):
        try:
            when = datetime.datetime.fromisoformat(when)
        except ValueError:
            raise HostError(
                f"g.schedule.at: found the time {when!r}, expected ISO 8601 such as "
                "2031-05-01T12:00:00Z"
            ) from None
    if isinstance(when, datetime.datetime):
        zoned = when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)
        return round(zoned.timestamp() * 1_000)
    if isinstance(when, bool) or not isinstance(when, (int, float)):
        raise HostError(
            f"g.schedule.at: found the time {when!r}, expected a datetime, ISO 8601 text or "
            "seconds since 1970"
        )
    return round(when * 1_000)


class State:
    """The listener's own small state: JSON by key, kept if the run ends well."""

    __slots__ = ()

    async def get(self, key, default=None):
        """The value of a key, or the default."""
        return (await _runner.call("kv.get", {"key": key})).get("value", default)

    async def set(self, key, value):
        """Set the value of a key."""
        await _runner.call("kv.set", {"key": key, "value": value})

    async def delete(self, key):
        """Delete a key; returns whether it was there."""
        return (await _runner.call("kv.delete", {"key": key}))["deleted"]

    async def list(self, prefix=""):
        """The keys that begin with a text, sorted."""
        return (await _runner.call("kv.list", {"prefix": prefix}))["keys"]


class Modules:
    """`g.modules.pricing`: what `import pricing` gives."""

    __slots__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            # What Python itself looks for (hasattr, copy, pickle) is no module.
            raise AttributeError(name)
        if name not in _runner.modules.code:
            known = ", ".join(_runner.modules.code) or "none"
            raise HostError(
                f"g.modules: found the module {name!r}, expected one that the header names in "
                f"modules = [...]: {known}"
            )
        return importlib.import_module(name)


class Cache:
    """Values that may be gone at any time, for all listeners of the tenant."""

    __slots__ = ()

    async def get(self, key, default=None):
        """The value of a key, or the default."""
        return (await _runner.call("cache.get", {"key": key})).get("value", default)

    async def set(self, key, value, *, ttl=None):
        """Set a value, gone after `ttl`: seconds, or text such as "5m"."""
        args = {"key": key, "value": value}
        if ttl is not None:
            args["ttl_s"] = _seconds(ttl)
        await _runner.call("cache.set", args)

    async def delete(self, key=None, *, prefix=None):
        """Delete a key, or all that begin with a text; returns how many there were."""
        args = {"key": key, "prefix": prefix}
        return (await _runner.call("cache.delete", args))["deleted"]


class Mail:
    """Mails, by the server that `[smtp]` in rowcast.toml names."""

    __slots__ = ()

    async def send(self, to, subject, text="", *, html="", cc=(), bcc=(), reply_to=()):
        """Send a mail; addresses are texts, or lists of them. Returns its Message-ID."""
        args = {"subject": subject, "text": text, "html": html}
        for name, given in (("to", to), ("cc", cc), ("bcc", bcc), ("reply_to", reply_to)):
            args[name] = given if isinstance(given, str) else list(given)
        sent = await _runner.call("mail.send", args)
        for address, why in sent["refused"].items():
            Log().warning("the mail server refused a recipient", address=address, why=why)
        return sent["message_id"]


class Log:
    """`g.log("text", field=value)`, or g.log.debug, .info, .warning, .error."""

    __slots__ = ()

    def __call__(self, message, **fields):
        self._write("info", message, fields)

    def debug(self, message, **fields):
        """A line that is only of interest to who looks for a mistake."""
        self._write("debug", message, fields)

    def info(self, message, **fields):
        """A line of interest."""
        self._write("info", message, fields)

    def warning(self, message, **fields):
        """A line about something unexpected."""
        self._write("warning", message, fields)

    def error(self, message, **fields):
        """A line about something wrong."""
        self._write("error", message, fields)

    def _write(self, level, message, fields):
        try:
            _runner.tell({"t": "log", "level": level, "message": str(message), "fields": fields}, "g.log")
        except HostError:
            # A log line must not end a run: what JSON cannot hold is shown as Python shows it.
            shown = {name: repr(value)[:1_000] for name, value in fields.items()}
            _runner.tell({"t": "log", "level": level, "message": str(message), "fields": shown}, "g.log")


class Secrets:
    """`g.secrets.get("NAME")`."""

    __slots__ = ("_values",)

    def __init__(self, values):
        self._values = values

    def get(self, name, default=None):
        """The secret's text, or the default where there is none of that name."""
        value = self._values.get(name)
        return default if value is None else Secret(value)

    def __getitem__(self, name):
        try:
            return Secret(self._values[name])
        except KeyError:
            known = ", ".join(sorted(self._values)) or "none"
            raise HostError(
                f"g.secrets: found no secret {name!r}, expected one of [secrets] in "
                f"rowcast.toml: {known}"
            ) from None


class Database:
    """A source: SQL where it is PostgreSQL, `collection` where it is MongoDB."""

    __slots__ = ("_source", "_tx")

    def __init__(self, source, tx=None):
        self._source = source
        self._tx = tx

    async def execute(self, sql, *params):
        """Run a statement with $1, $2 ... as parameters; returns how many rows it touched."""
        return (await self._call("db.execute", sql, params))["rows"]

    async def fetch(self, sql, *params):
        """The rows of a query, each a dict."""
        return (await self._call("db.fetch", sql, params))["rows"]

    query = fetch

    async def fetch_one(self, sql, *params):
        """The first row of a query, or None."""
        return (await self._call("db.fetch_one", sql, params))["row"]

    def transaction(self):
        """`async with g.db("shop").transaction() as tx:` - all of it or nothing."""
        return Transaction(self._source)

    def collection(self, name):
        """A collection of a MongoDB source."""
        return Collection(self._source, name)

    def _call(self, name, sql, params):
        args = {"source": self._source, "sql": sql, "params": list(params)}
        if self._tx is not None:
            args["tx"] = self._tx
        return _runner.call(name, args)


class Transaction:
    """Commits where its block ends well, rolls back where it raises."""

    __slots__ = ("_source", "_tx")

    def __init__(self, source):
        self._source = source
        self._tx = None

    async def __aenter__(self):
        self._tx = (await _runner.call("db.begin", {"source": self._source}))["tx"]
        return Database(self._source, self._tx)

    async def __aexit__(self, kind, _error, _traceback):
        await _runner.call("db.commit" if kind is None else "db.rollback", {"tx": self._tx})
        return False


class Collection:
    """A collection; documents are relaxed Extended JSON, as in events."""

    __slots__ = ("_place",)

    def __init__(self, source, name):
        self._place = {"source": source, "collection": name}

    async def find(self, filter=None, *, projection=None, sort=None, limit=None, skip=None):
        """The documents that a filter selects."""
        args = self._read(filter, projection, sort)
        if limit is not None:
            args["limit"] = limit
        if skip is not None:
            args["skip"] = skip
        return (await _runner.call("mongo.find", args))["documents"]

    async def find_one(self, filter=None, *, projection=None, sort=None):
        """The first of them, or None."""
        return (await _runner.call("mongo.find_one", self._read(filter, projection, sort)))["document"]

    async def aggregate(self, pipeline):
        """The documents that a pipeline of reading stages gives."""
        return (await self._call("mongo.aggregate", pipeline=pipeline))["documents"]

    async def count(self, filter=None):
        """How many documents a filter selects."""
        return (await self._call("mongo.count", filter=filter or {}))["count"]

    async def insert(self, *documents):
        """Insert documents, given singly or as one list; returns their ids."""
        if len(documents) == 1 and isinstance(documents[0], list):
            (documents,) = documents
        return (await self._call("mongo.insert", documents=list(documents)))["ids"]

    async def update(self, filter, update, *, upsert=False, many=False):
        """Update one document, or many; returns {"matched", "modified", "upserted"}."""
        return await self._call(
            "mongo.update", filter=filter, update=update, upsert=upsert, many=many
        )

    async def delete(self, filter, *, many=False):
        """Delete one document, or many; returns how many."""
        return (await self._call("mongo.delete", filter=filter, many=many))["deleted"]

    def _read(self, filter, projection, sort):
        args = {**self._place, "filter": filter or {}}
        if projection is not None:
            args["projection"] = projection
        if sort is not None:
            args["sort"] = sort
        return args

    def _call(self, name, **args):
        return _runner.call(name, {**self._place, **args})


class Http:
    """Calls to addresses that rowcast.toml allows."""

    __slots__ = ()

    async def request(self, method, url, *, headers=None, body=None, json=None, timeout_s=None):
        """Call an address; returns a Response, whatever its status."""
        args = {"method": method, "url": url}
        if isinstance(body, (bytes, bytearray)):
            body = {"base64": base64.b64encode(body).decode()}
        for name, value in (("headers", headers), ("body", body), ("timeout_s", timeout_s)):
            if value is not None:
                args[name] = value
        if json is not None:
            args["json"] = json
        return Response(await _runner.call("http.request", args))

    async def get(self, url, **options):
        """GET."""
        return await self.request("GET", url, **options)

    async def post(self, url, **options):
        """POST."""
        return await self.request("POST", url, **options)

    async def put(self, url, **options):
        """PUT."""
        return await self.request("PUT", url, **options)

    async def patch(self, url, **options):
        """PATCH."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url, **options):
        """DELETE."""
        return await self.request("DELETE", url, **options)


class Api:
    """A third-party API; the credential is added outside."""

    __slots__ = ("_name",)

    def __init__(self, name):
        self._name = name

    async def request(
        self, method, path="", *, params=None, headers=None, body=None, json=None, timeout_s=None
    ):
        """Call a path of it; returns a Response, whatever its status."""
        args = {"api": self._name, "method": method, "path": path}
        if isinstance(body, (bytes, bytearray)):
            body = {"base64": base64.b64encode(body).decode()}
        for name, value in (
            ("params", params), ("headers", headers), ("body", body), ("timeout_s", timeout_s),
        ):
            if value is not None:
                args[name] = value
        if json is not None:
            args["json"] = json
        return Response(await _runner.call("api.request", args))

    async def get(self, path="", **options):
        """GET."""
        return await self.request("GET", path, **options)

    async def post(self, path="", **options):
        """POST."""
        return await self.request("POST", path, **options)

    async def put(self, path="", **options):
        """PUT."""
        return await self.request("PUT", path, **options)

    async def patch(self, path="", **options):
        """PATCH."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path="", **options):
        """DELETE."""
        return await self.request("DELETE", path, **options)


class Response:
    """An answer: `status`, `ok`, `headers` (names in lower case), `text`, `content`, `json()`."""

    def __init__(self, answer):
        self.status = answer["status"]
        self.headers = answer["headers"]
        body = answer["body"]
        if isinstance(body, dict):
            self.content = base64.b64decode(body["base64"])
            self.text = self.content.decode("utf-8", "replace")
        else:
            self.text = body
            self.content = body.encode()

    @property
    def ok(self):
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self):
        """The body as JSON."""
        return _from_json(self.text)

    def raise_for_status(self):
        """Raise where the status is not 2xx."""
        if not self.ok:
            raise HostError(f"the answer was {self.status}, expected 2xx: {self.text[:200]}")
        return self
