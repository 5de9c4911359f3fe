from __future__ import annotations

import uuid
from pathlib import Path

import psycopg
import pytest

from rowcast.installation import open_installation
from rowcast.slot_status import read_slots, slot_line

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_status_says_of_every_slot_whether_it_keeps_too_much_log(
    postgres_dsn: str, tmp_path: Path
) -> None:
    slot = f"s{uuid.uuid4().hex[:10]}"
    (tmp_path / "rowcast.toml").write_text(
        f'[sources.shop]\nkind = "postgres"\ndsn = "{postgres_dsn}"\nslot = "{slot}"\n'
        "wal_budget_mb = 20\n"
        '[sources.away]\nkind = "postgres"\ndsn = "postgresql://x@127.0.0.1:9/x"\n'
    )
    installation = open_installation(tmp_path, {})
    assert {name: one.state for name, one in (await read_slots(installation)).items()} == {
        "shop": "missing"
    }
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(
            "select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,)
        )
        try:
            fresh = (await read_slots(installation))["shop"]
            # The first may move the log by a few bytes only, the others by 16 MiB each.
            for _ in range(3):
                await connection.execute("select pg_logical_emit_message(true, 'x', 'x')")
                await connection.execute("select pg_switch_wal()")
            over = (await read_slots(installation))["shop"]
        finally:
            await connection.execute("select pg_drop_replication_slot(%s)", (slot,))
    assert (fresh.state, fresh.mend, fresh.wal_status) == ("ok", "", "reserved")
    assert over.state == "over_budget"
    assert over.retained_bytes >= over.budget_bytes == 20 << 20
    line = slot_line("shop", over)
    assert "over budget" in line
    assert "let capture catch up" in line
