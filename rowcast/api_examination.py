"""What `rowcast doctor` says of the HTTP side: secrets of third-party APIs, and events on disk."""

from __future__ import annotations

from aiokafka.errors import KafkaError

from api.third_party_definition import ThirdParty
from cdc.finding import Finding
from rowcast.definition_files import read_applied
from rowcast.errors import NotRunningError
from rowcast.installation import Installation


async def examine_api(installation: Installation) -> list[Finding]:
    """Findings; none of definitions while Kafka, which holds them, is away."""
    findings = _unsent(installation)
    try:
        applied = await read_applied(installation)
    except (NotRunningError, KafkaError, OSError, TimeoutError):
        return findings
    secrets = installation.configuration.definition_secrets
    for name, one in sorted(applied.items()):
        if not isinstance(one, ThirdParty) or not one.enabled:
            continue
        subject = f"third-party API {name}"
        missing = [secret for secret in one.secret_names if not secrets.get(secret)]
        if missing:
            found = f"its credential needs the secret {missing[0]}, which there is not"
            mend = (
                f'{missing[0]} = "..." in [credentials] of rowcast.toml, or the variable '
                f"ROWCAST__CREDENTIALS__{missing[0]}; then start the HTTP service again"
            )
            findings.append(Finding("error", subject, found, "a secret of that name", mend))
        else:
            findings.append(Finding("ok", subject, f"calls {one.base_url}", "", ""))
    return findings


def _unsent(installation: Installation) -> list[Finding]:
    files = installation.unsent.glob("*.events")
    waiting = sum(file.stat().st_size for file in files)
    if not waiting:
        return []
    found = f"{waiting:,} bytes of events in {installation.unsent} wait for Kafka"
    mend = "start Kafka, and the HTTP service where it does not run; keep the folder until then"
    return [Finding("warning", "events of API calls", found, "them to be on Kafka", mend)]
