"""The command line's way to an installation: its system API, here or anywhere else."""

from __future__ import annotations

import getpass
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import httpx
import msgspec

from api.system_operation import SystemOperation
from events.json_codec import JsonObject, JsonValue, decode_object
from events.token import make_token
from rowcast.errors import NotFoundError, NotRunningError, RefusedError
from rowcast.installation import Installation, open_installation
from rowcast.status import read_status, supervisor_runs

_Arguments = TypeVar("_Arguments", bound=msgspec.Struct)
_Result = TypeVar("_Result")

_TOKEN_S: Final = 60.0
_EVENTS: Final = "/admin/v1/events"
# A doctor's visit, a replay or the compiling of newer Python may take a while.
_TIMEOUT: Final = httpx.Timeout(600.0, connect=5.0)
_UNAVAILABLE: Final = 503


class _Ids(msgspec.Struct):
    ids: list[str]


@dataclass(frozen=True, slots=True)
class SystemClient:
    """An installation by its address; `mend` says what to do where nothing answers there."""

    url: str
    token: str
    mend: str

    async def ask(
        self, operation: SystemOperation[_Arguments, _Result], arguments: _Arguments
    ) -> _Result:
        """Have an operation carried out.

        Raises NotRunningError where nothing answers or something it needs is away, RefusedError
        or NotFoundError with the API's message otherwise.
        """
        path, query, body = operation.address(arguments)
        raw = await self._call(operation.method, path, query, body)
        try:
            return msgspec.json.decode(raw, type=operation.result)
        except msgspec.DecodeError as error:
            raise RefusedError(
                f"{self.url}{path} answered what is not understood ({error}); expected a Rowcast "
                "of this command's version"
            ) from error

    async def emit(self, event: JsonObject) -> str:
        """Emit a custom event; returns its id."""
        raw = await self._call("POST", _EVENTS, {}, event)
        return msgspec.json.decode(raw, type=_Ids).ids[0]

    async def _call(
        self, method: str, path: str, query: dict[str, str], body: JsonObject | None
    ) -> bytes:
        headers = {"authorization": f"Bearer {self.token}"}
        content = None if body is None else msgspec.json.encode(body)
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            # Not through a proxy of the environment: an installation is often at 127.0.0.1.
            async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
                answer = await client.request(
                    method, f"{self.url}{path}", params=query, content=content, headers=headers
                )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            what = str(error) or type(error).__name__
            raise NotRunningError(
                f"the HTTP service was not reached at {self.url} ({what}); {self.mend}"
            ) from error
        if answer.is_success:
            return answer.content
        raise self._failure(answer)

    def _failure(self, answer: httpx.Response) -> Exception:
        try:
            said = decode_object(answer.content)
        except ValueError:
            said: JsonObject = {}
        message = _text(said.get("message"))
        if message is None:
            return RefusedError(
                f"{self.url} answered {answer.status_code}, which is no answer of a Rowcast; "
                f"{self.mend}"
            )
        parts = (message, _text(said.get("details")), _text(said.get("hint")))
        whole = "; ".join(part for part in parts if part)
        if answer.status_code == _UNAVAILABLE:
            return NotRunningError(whole)
        if said.get("code") == "RC404":
            return NotFoundError(whole)
        return RefusedError(whole)


def client_of_folder(folder: Path) -> SystemClient:
    """The installation in a folder of this machine, with a token made from its secret."""
    installation = open_installation(folder)
    return SystemClient(
        _url(installation),
        make_token(
            installation.jwt_secret, "service_role", f"rowcast {_user()}", _TOKEN_S, now=time.time()
        ),
        f"start it with `rowcast up --dir {folder}` or `rowcast run http --dir {folder}`",
    )


def client_of_url(url: str, token: str) -> SystemClient:
    """An installation anywhere."""
    return SystemClient(url.rstrip("/"), token, "expected the address of a running Rowcast there")


def _url(installation: Installation) -> str:
    """Where it listens: as its supervisor says while that runs, since `up` may choose the port."""
    status = read_status(installation.status_file)
    if status is not None and supervisor_runs(status):
        return _reachable(status.http)
    return _reachable(installation.http_url)


def _reachable(url: str) -> str:
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//:::", "//[::1]:")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None
