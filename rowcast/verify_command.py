"""`rowcast verify`: what is compared, said for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from cdc.postgres_verification import VerifyLimits, verify_postgres
from cdc.verification import Difference, TableVerification, Verification
from rowcast.errors import ConfigurationError
from rowcast.installation import Installation

_VALUE_LENGTH = 200


async def verify(
    installation: Installation,
    source: str,
    tables: Sequence[str],
    limits: VerifyLimits,
    say: Callable[[str], None],
) -> Verification:
    """Compare a source's tables with their topics; raises CaptureError or ConfigurationError."""
    if installation.source(source).kind != "postgres":
        raise ConfigurationError(
            f"found the source {source!r} of kind mongo, expected one of kind postgres: "
            "collections are not compared yet"
        )
    postgres = installation.postgres_source(source)
    return await verify_postgres(postgres, installation.cluster, tables, limits, say)


def verification_text(found: Verification, *, as_json: bool) -> str:
    """What to print."""
    if as_json:
        body = msgspec.to_builtins(found) | {"differences": found.difference_count}
        return msgspec.json.encode(body).decode()
    lines: list[str] = []
    for table in found.tables:
        lines += _table_lines(table)
    if found.transactions is not None:
        torn = f"{len(found.torn)} of them lack a change" if found.torn else "each one whole"
        lines.append(f"{found.transactions:,} transactions, {torn}")
    lines += [f"        {line}" for line in found.torn]
    lines += [f"note    {statement}" for statement in found.statements]
    count = found.difference_count
    said = f"{count:,} differences" if count else "no differences"
    lines.append(f"{said}, {found.source} up to {found.position}")
    return "\n".join(lines)


def _table_lines(table: TableVerification) -> list[str]:
    mark = "DIFFERS" if table.difference_count else "note   " if table.statements else "ok     "
    counts = [f"{table.rows:,} rows", f"{table.records:,} records"]
    for kind in ("missing", "extra", "different", "repeated", "unreadable"):
        count = getattr(table, kind)
        if count:
            counts.append(f"{count:,} {kind}")
    if table.untold:
        counts.append(f"{table.untold:,} not on the topic")
    if table.untold_values:
        counts.append(f"{table.untold_values:,} values not on the topic")
    lines = [f"{mark} {table.schema}.{table.table}: {', '.join(counts)}"]
    lines += [f"        {statement}" for statement in table.statements]
    lines += [f"        {_difference_line(difference)}" for difference in table.differences]
    if table.difference_count > len(table.differences) > 0:
        lines.append(f"        and {table.difference_count - len(table.differences):,} more")
    return lines


def _difference_line(difference: Difference) -> str:
    parts: list[str] = [difference.kind]
    if difference.key is not None:
        parts.append(_shown(difference.key))
    if difference.table is not None:
        parts.append(f"table {_shown(difference.table)}")
    if difference.topic is not None:
        parts.append(f"topic {_shown(difference.topic)}")
    if difference.event:
        parts.append(f"last event {difference.event}")
    if difference.detail:
        parts.append(difference.detail)
    return "  ".join(parts)


def _shown(raw: msgspec.Raw) -> str:
    text = bytes(raw).decode("utf-8", "replace")
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}..."
