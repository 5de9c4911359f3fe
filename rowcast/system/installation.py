"""Operations on the installation as a whole: status, doctor, tokens, packages."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from api.system_operation import NoArguments, SystemOperation
from cdc.finding import Finding
from cdc.snapshot_state import TableSnapshot
from events.token import Role
from rowcast.address import without_password
from rowcast.doctor import examine
from rowcast.errors import NotRunningError
from rowcast.installation import Installation
from rowcast.package_lock import PackageFolder, locked_tenants
from rowcast.slot_status import SlotStatus, read_slots
from rowcast.snapshot_command import read_snapshots
from rowcast.status import SourceStatus, Status, read_status, with_truth
from rowcast.token_command import token_text


class WholeStatus(Status):
    """What runs, what slots keep of the log, what is being loaded."""

    slots: dict[str, SlotStatus]
    snapshots: dict[str, list[TableSnapshot]]


class TokenArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token is to say."""

    role: Role = "authenticated"
    subject: str = "developer"
    expires: Annotated[str, msgspec.Meta(description="lifetime: 90s, 15m, 24h, 30d")] = "24h"
    claims: dict[str, object] = {}


class TokenResult(msgspec.Struct, frozen=True):
    """A signed token."""

    token: str


class PackagesArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose packages."""

    tenant: str | None = None


class InstalledPackage(msgspec.Struct, frozen=True):
    """A package that a tenant's listeners may import; `asked` is empty where another needs it."""

    tenant: str
    name: str
    version: str
    sha256: str
    asked: str


STATUS: Final = SystemOperation(
    "status",
    "GET",
    "/status",
    "What runs, and where, how much log slots keep, and what is being loaded",
    NoArguments,
    WholeStatus,
)
DOCTOR: Final = SystemOperation(
    "doctor",
    "GET",
    "/doctor",
    "What is wrong or can lose data, and how to mend it",
    NoArguments,
    list[Finding],
)
MAKE_TOKEN: Final = SystemOperation(
    "make_token",
    "POST",
    "/tokens",
    "Make a token for the HTTP service",
    TokenArguments,
    TokenResult,
    told=("role", "subject", "expires"),
    status=201,
)
LIST_PACKAGES: Final = SystemOperation(
    "list_packages",
    "GET",
    "/packages",
    "Third-party packages that listeners import",
    PackagesArguments,
    list[InstalledPackage],
)


async def whole_status(installation: Installation) -> WholeStatus:
    """The status; raises NotRunningError where nothing was ever started in the folder."""
    found = read_status(installation.status_file)
    if found is None:
        folder = installation.folder
        raise NotRunningError(f"nothing was started in {folder}; `rowcast up --dir {folder}` does")
    return await _whole(installation, with_truth(found))


async def _whole(installation: Installation, status: Status) -> WholeStatus:
    fields = {name: getattr(status, name) for name in Status.__struct_fields__}
    return WholeStatus(
        **fields,
        slots=await read_slots(installation),
        snapshots=await read_snapshots(installation, status),
    )


async def shown_status(installation: Installation, _arguments: NoArguments) -> WholeStatus:
    """The same without the passwords of databases: whoever asks is not always their owner."""
    if read_status(installation.status_file) is None:
        status = await _whole(installation, _unsupervised(installation))
    else:
        status = await whole_status(installation)
    for source in status.sources.values():
        source.dsn = without_password(source.dsn)
    return status


def _unsupervised(installation: Installation) -> Status:
    """Of services that `rowcast run` started one by one: they are not seen from here."""
    return Status(
        http=installation.http_url,
        kafka=installation.cluster.bootstrap,
        port_base=installation.port_base,
        supervisor_pid=0,
        supervisor_started_s=0.0,
        sources={
            name: SourceStatus(settings.kind, installation.dsn(name))
            for name, settings in installation.configuration.sources.items()
        },
        services={},
    )


async def doctor(installation: Installation, _arguments: NoArguments) -> list[Finding]:
    """All findings."""
    return await examine(installation)


async def make_token(installation: Installation, arguments: TokenArguments) -> TokenResult:
    """A token; raises ConfigurationError for a lifetime that means nothing."""
    told = (arguments.role, arguments.subject, arguments.expires, arguments.claims)
    return TokenResult(token_text(installation, *told))


async def list_packages(
    installation: Installation, arguments: PackagesArguments
) -> list[InstalledPackage]:
    """Packages of all tenants, or of one."""
    tenants = (
        locked_tenants(installation.folder) if arguments.tenant is None else [arguments.tenant]
    )
    found: list[InstalledPackage] = []
    for tenant in tenants:
        lock = PackageFolder(installation.folder, tenant).read_lock()
        found += [
            InstalledPackage(
                tenant, one.name, one.version, one.sha256, lock.asked.get(one.name, "")
            )
            for one in lock.packages
        ]
    return found
