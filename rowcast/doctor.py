"""`rowcast doctor`: everything that must be so for Rowcast to run and lose nothing."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from cdc.compiled_rows import is_compiled
from cdc.finding import Finding
from cdc.mongo_doctor import examine_mongo
from cdc.postgres_doctor import examine_postgres
from events.chain import Chain
from events.errors import MailError
from events.run import RunRequest
from infra import artifacts
from infra.errors import InfraError
from listener_runtime.confinement_report import confinement_report
from listener_runtime.pool import SandboxPool
from listener_runtime.smtp_sender import SmtpSender
from rowcast.api_examination import examine_api
from rowcast.installation import Installation
from rowcast.package_lock import locked_tenants
from rowcast.packages import image_trouble
from rowcast.sandbox_settings import pool_settings
from rowcast.status import read_status, with_truth

_MAIL_LIMIT_S = 10.0
_PROBE = "async def main(event, g):\n    return event['answer']\n"


async def examine(installation: Installation) -> list[Finding]:
    """All findings: artifacts, services, Kafka, each source, the sandbox."""
    findings = _artifacts(installation) + _services(installation)
    findings += await _kafka(installation)
    sources = installation.configuration.sources
    for name, settings in sources.items():
        if settings.kind == "postgres":
            findings += await examine_postgres(installation.postgres_source(name))
        else:
            findings += await examine_mongo(installation.mongo_source(name))
    findings += await examine_api(installation)
    findings.append(await _sandbox(installation))
    findings += await _mail(installation)
    findings += _packages(installation)
    findings += await _confinement()
    return findings


def _artifacts(installation: Installation) -> list[Finding]:
    wanted = [("Deno", artifacts.deno), ("sandbox image", artifacts.sandbox_image)]
    if installation.kafka_server is not None:
        wanted += [("Java", artifacts.java), ("Kafka's jars", artifacts.kafka_jars)]
    if installation.postgres_server is not None:
        wanted.append(("PostgreSQL's programs", artifacts.postgres_bin))
    if installation.mongo_server is not None:
        wanted.append(("mongod", artifacts.mongod))
    findings: list[Finding] = []
    for subject, find in wanted:
        try:
            findings.append(_ok(subject, str(find())))
        except InfraError as error:
            findings.append(_error(subject, str(error), "it to be in place", "make install"))
    findings.append(_compiled())
    return findings


def _compiled() -> Finding:
    subject = "capture's compiled code"
    if is_compiled():
        return _ok(subject, "in place")
    found = "not there; capture is as exact without it, and takes a few times the CPU time a row"
    mend = "install a C compiler (apt-get install gcc python3-dev), then make clean install"
    return _warning(subject, found, "cdc/row_path and cdc/record_batch, compiled", mend)


def _services(installation: Installation) -> list[Finding]:
    status = read_status(installation.status_file)
    if status is None:
        return [_warning("services", "never started", "them to run", "rowcast up")]
    findings: list[Finding] = []
    for name, service in with_truth(status).services.items():
        if service.state == "running":
            findings.append(_ok(name, f"running, restarted {service.restarts} times"))
        else:
            found = f"{service.state}, {service.last_exit or 'no exit seen'}"
            log = installation.logs / f"{name}.log"
            findings.append(_error(name, found, "running", f"rowcast up; its log is {log}"))
    return findings


async def _kafka(installation: Installation) -> list[Finding]:
    cluster = installation.cluster
    client = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap, request_timeout_ms=5_000)
    mend = "start it (`rowcast up`), or set kafka.bootstrap in rowcast.toml"
    try:
        await client.start()
        topics = set(await client.list_topics())
    except (TimeoutError, KafkaError, OSError) as error:
        found = f"not reached at {cluster.bootstrap}: {error}"
        return [_error("kafka", found, "a broker that answers", mend)]
    finally:
        await client.close()
    own = (*cluster.topics.compacted, *cluster.topics.partitioned)
    missing = sorted(set(own) - topics)
    if missing:
        found = f"topics missing: {', '.join(missing)}"
        return [_error("kafka", found, "our own topics", "rowcast up, or rowcast run, makes them")]
    return [_ok("kafka", f"answers at {cluster.bootstrap}, {len(topics)} topics")]


async def _sandbox(installation: Installation) -> Finding:
    try:
        pool = SandboxPool(pool_settings(installation, processes=1), installation.host_settings())
    except InfraError as error:
        return _error("sandbox", str(error), "an image", "make install")
    request = RunRequest(
        run_id="doctor",
        listener="doctor",
        code=_PROBE,
        event=b'{"answer": 42}',
        event_id="doctor",
        chain=Chain("doctor"),
    )
    try:
        await pool.start()
        outcome = await pool.run(request)
    finally:
        await pool.close()
    if outcome.status == "ok" and outcome.result == 42:
        return _ok("sandbox", f"ran a listener in {outcome.duration_ms:.1f} ms")
    found = f"{outcome.status}: {outcome.error}"
    return _error("sandbox", found, "a listener to run", "rm -rf build/sandbox; make install")


async def _mail(installation: Installation) -> list[Finding]:
    settings = installation.smtp_settings()
    if not settings.host:
        return []
    try:
        async with asyncio.timeout(_MAIL_LIMIT_S):
            await SmtpSender(settings).look()
    except TimeoutError:
        found = f"the mail server {settings.host}:{settings.port} says nothing"
    except MailError as error:
        found = str(error)
    else:
        return [_ok("mail", f"{settings.host}:{settings.port} takes mails from {settings.sender}")]
    mend = "start it, or set host, port, tls, user and password in [smtp] (docs/mail.md)"
    return [_error("mail", found, "a server that takes mails", mend)]


def _packages(installation: Installation) -> list[Finding]:
    findings: list[Finding] = []
    for tenant in locked_tenants(installation.folder):
        subject = f"packages of tenant {tenant}"
        try:
            trouble = image_trouble(installation, tenant)
        except InfraError:
            continue  # the sandbox's own image is missing, which is said already
        if trouble is None:
            findings.append(_ok(subject, "their image is in place"))
        else:
            mend = f"rowcast packages rebuild --tenant {tenant}"
            findings.append(_error(subject, trouble, "an image of this version", mend))
    return findings


async def _confinement() -> list[Finding]:
    findings: list[Finding] = []
    for layer, found in (await confinement_report()).items():
        subject = f"sandbox confinement, {layer}"
        if found == "on":
            findings.append(_ok(subject, found))
        else:
            expected = "the kernel to offer it; Deno denies every permission without it too"
            mend = "a newer kernel, or a container that allows it: docs/security.md"
            findings.append(_warning(subject, found, expected, mend))
    return findings


def _ok(subject: str, found: str) -> Finding:
    return Finding("ok", subject, found, "", "")


def _warning(subject: str, found: str, expected: str, mend: str) -> Finding:
    return Finding("warning", subject, found, expected, mend)


def _error(subject: str, found: str, expected: str, mend: str) -> Finding:
    return Finding("error", subject, found, expected, mend)
